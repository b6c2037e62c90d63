//! `doctor` and `check-config` on a whole installation: silent about what is right, and each fault is found by its name.

use crate::mutual_tls::{AUTHORITY, GATEWAY, Secret};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use vncgate_authority::doctor::{Report, envoy};
use vncgate_test_support::authority::{Authority, CONFIG_FILE, Config, NO_GATEWAY};
use vncgate_test_support::certificate::{Ca, plain_http_client};
use vncgate_test_support::clock::Clock;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::doctor::doctor;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::screen::RfbServer;
use vncgate_test_support::stores::{RedisGroup, Store};
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::workspace::{self, free_address_of};

/// Runs a command of the authority with the configuration of this run.
fn command(run: &Run, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(workspace::authority());
    command.env_clear().args(arguments).arg("--config").arg(run.path(CONFIG_FILE));
    let Output { status, stdout, stderr } = command.output().expect("run the authority");
    let text = |bytes| String::from_utf8(bytes).expect("its output is text");
    (status.code(), text(stdout), text(stderr))
}

/// The findings of `doctor` that are not good, by their codes, and its exit code.
fn diagnose(run: &Run, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    diagnose_with(run, arguments, &[])
}

fn diagnose_with(
    run: &Run,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> (Option<i32>, Vec<String>) {
    let diagnosis = doctor(Some(&run.path(CONFIG_FILE)), arguments, environment);
    (diagnosis.code, diagnosis.bad().into_iter().map(str::to_owned).collect())
}

fn set_mode(run: &Run, file: &str, mode: u32) {
    std::fs::set_permissions(run.path(file), Permissions::from_mode(mode))
        .expect("change a file's mode");
}

/// What `doctor` finds in an Envoy's configuration that is not good, each once.
fn examined(dump: &Value) -> Vec<&'static str> {
    let mut report = Report::default();
    envoy::examine(dump, &mut report);
    let bad = report.findings.iter().filter(|finding| !finding.mend.is_empty());
    let mut codes: Vec<_> = bad.map(|finding| finding.code).collect();
    codes.dedup();
    codes
}

async fn dump_of(gateway: &Gateway, envoy: &Envoy) -> Value {
    let url = format!("{}/config_dump", envoy.admin_url());
    let answer = gateway.ca.http_client().get(url).send().await.expect("Envoy's admin answers");
    answer.json().await.expect("Envoy's JSON")
}

/// Changes each object below a value.
fn change(value: &mut Value, by: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Object(_) => {
            by(value);
            let fields = value.as_object_mut().expect("an object");
            fields.values_mut().for_each(|field| change(field, by));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| change(item, by)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_installation_is_good_and_each_fault_is_found() {
    let mut gateway = Gateway::start("doctor").await;
    gateway.vcenter.remove_template_host();
    let console = RfbServer::start(ESXI_HOSTS[0]).await;
    let vm = gateway.machine_at(console.address());
    let closed = free_address_of(ESXI_HOSTS[0]);
    let unreachable = gateway.vcenter.create_vm("closed-1", closed.ip(), closed.port());
    set_mode(&gateway.run, "vcenter-a.password", 0o600);

    let admin = gateway.envoy.admin_url();
    let everything = ["--vm", &vm.name, "--envoy-admin", &admin];
    // Nothing but the authority makes tokens in its memory, so it has to be asked for one.
    let untried = vec!["token_granted".to_owned()];
    assert_eq!(diagnose(&gateway.run, &everything), (Some(0), untried));
    let url = format!("http://{}", gateway.authority.config().public());
    let by_its_api = [&everything[..], &["--url", &url]].concat();
    let api_token = |token: &str| [("VNCGATE_API_TOKEN", token.to_owned())];
    let diagnosed = diagnose_with(&gateway.run, &by_its_api, &api_token(API_TOKEN));
    assert_eq!(diagnosed, (Some(0), Vec::new()));
    let diagnosed = diagnose_with(&gateway.run, &by_its_api, &api_token("another"));
    assert_eq!(diagnosed, (Some(1), vec!["token_issued".to_owned()]));

    // From a machine without the configuration: the API, behind Envoy, and Envoy itself.
    let (url, ca) = (gateway.envoy.url(), gateway.ca.path().display().to_string());
    let elsewhere = ["--vm", &vm.name, "--url", &url, "--ca-file", &ca, "--envoy-admin", &admin];
    let diagnosis = doctor(None, &elsewhere, &api_token(API_TOKEN));
    assert_eq!((diagnosis.code, diagnosis.bad().len()), (Some(0), 0), "{diagnosis:?}");
    assert!(diagnosis.good().starts_with(&["token_issued", "token_revoked"]), "{diagnosis:?}");
    let diagnosis = doctor(None, &["--envoy-admin", &admin], &[]);
    assert!(diagnosis.code == Some(0) && diagnosis.bad().is_empty(), "{diagnosis:?}");
    let nothing = Command::new(workspace::authority()).arg("doctor").env_clear().output();
    let told = String::from_utf8(nothing.expect("it runs").stderr).expect("text");
    assert!(told.contains("--config <FILE>"), "{told}");

    // By a clock that is ten minutes fast.
    let clock = Clock::new(&gateway.run);
    clock.set(10 * 60);
    let diagnosed = diagnose_with(&gateway.run, &[], &clock.environment());
    assert_eq!(diagnosed, (Some(0), vec!["clock_skew".to_owned()]));
    let (code, stdout, _) = command(&gateway.run, &[&["doctor"], &everything[..]].concat());
    assert!(code == Some(0) && stdout.contains("esxi_vnc: "), "{stdout}");
    let (code, stdout, stderr) = command(&gateway.run, &["check-config", "--online", "--strict"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");

    for (vm, found) in [(unreachable.name.as_str(), "esxi_vnc"), ("no-such-machine", "machine")] {
        assert_eq!(
            diagnose(&gateway.run, &["--vm", vm]),
            (Some(1), vec![found.to_owned()]),
            "{vm}"
        );
    }
    let nothing_there = ["--envoy-admin", "http://127.0.0.1:1"];
    assert_eq!(diagnose(&gateway.run, &nothing_there), (Some(1), vec!["envoy_admin".to_owned()]));

    // A warning does not fail, unless asked to.
    set_mode(&gateway.run, "vcenter-a.password", 0o644);
    assert_eq!(diagnose(&gateway.run, &[]), (Some(0), vec!["open_secret".to_owned()]));
    let (code, _, stderr) = command(&gateway.run, &["check-config"]);
    assert!(code == Some(0) && stderr.contains("WARNING  open_secret"), "{stderr}");
    assert_eq!(command(&gateway.run, &["check-config", "--strict"]).0, Some(1));
    set_mode(&gateway.run, "vcenter-a.password", 0o600);

    // vCenter refuses the login, then is gone; the authority is gone as well.
    let password = std::fs::read(gateway.run.path("vcenter-a.password")).expect("the password");
    gateway.run.write("vcenter-a.password", "wrong");
    assert_eq!(diagnose(&gateway.run, &[]), (Some(1), vec!["vcenter_login".to_owned()]));
    assert_eq!(command(&gateway.run, &["check-config"]).0, Some(0), "it connects to nothing");
    assert_eq!(command(&gateway.run, &["check-config", "--online"]).0, Some(1));
    gateway.run.write("vcenter-a.password", password);
    gateway.vcenter.stop();
    gateway.authority.kill();
    let both = vec!["vcenter_login".to_owned(), "authority".to_owned()];
    assert_eq!(diagnose(&gateway.run, &[]), (Some(1), both));
}

#[tokio::test]
async fn each_fault_of_an_envoy_is_found_by_its_name() {
    let gateway = Gateway::start("doctor-envoy").await;
    let dump = dump_of(&gateway, &gateway.envoy).await;
    assert_eq!(examined(&dump), [] as [&str; 0]);

    let mut results = Vec::new();
    // Faults that Envoy starts with.
    for (literal, replacement, found) in [
        (
            "    - name: vncgate_esxi_vnc\n",
            "    - name: vncgate_esxi_vnc\n      original_dst_lb_config: { use_http_header: true }\n",
            "use_http_header",
        ),
        (
            "path: \"%FILTER_STATE(wasm.vncgate.path:PLAIN)%\"",
            "path: \"%REQ(:PATH)%\"",
            "access_log",
        ),
        (
            "per_connection_buffer_limit_bytes: 655360",
            "per_connection_buffer_limit_bytes: 262144",
            "buffers",
        ),
        (
            "\n                request_timeout: 30s",
            "\n                request_timeout: 0s",
            "request_timeout",
        ),
        ("timeout: 0s # a session lasts", "timeout: 15s # a session lasts", "route_timeout"),
    ] {
        let changes = [(literal, replacement.to_owned())];
        let envoy = gateway.envoy_with(&changes).await;
        results.push((found, examined(&dump_of(&gateway, &envoy).await)));
    }

    // Faults of the order, and parts that are not there, in what a real Envoy says of itself.
    type Fault = fn(&mut Value);
    let faults: [(&str, Fault); 8] = [
        ("console_guard", |object| {
            if let Some(filters) = object["http_filters"].as_array_mut() {
                filters.retain(|filter| filter["name"] != "vncgate_guard");
            }
        }),
        ("failure_policy", |object| {
            if object["failure_policy"].is_string() {
                object["failure_policy"] = json!("FAIL_CLOSED");
            }
        }),
        ("filter_missing", |object| {
            if let Some(filters) = object["http_filters"].as_array_mut() {
                filters.retain(|filter| filter["name"] != "vncgate");
            }
        }),
        ("filter_order", |object| {
            if let Some(filters) = object["http_filters"].as_array_mut() {
                filters.swap(0, 1);
            }
        }),
        ("routes", |object| {
            if let Some(routes) = object["routes"].as_array_mut() {
                routes.reverse();
            }
        }),
        ("access_log", |object| {
            if object["access_log"].is_array() {
                object["access_log"] = json!([]);
            }
        }),
        ("connection_limit", |object| {
            if let Some(fields) = object.as_object_mut() {
                fields.remove("max_active_downstream_connections");
            }
        }),
        ("clusters", |object| {
            if object["type"] == "ORIGINAL_DST" {
                object["type"] = json!("STATIC");
            }
        }),
    ];
    for (found, fault) in faults {
        let mut dump = dump.clone();
        // Indexing makes a field that is not there null, which no comparison takes for one that is.
        change(&mut dump, &mut |object| fault(object));
        results.push((found, examined(&dump)));
    }
    for (found, codes) in &results {
        assert_eq!(codes[..], [*found], "{results:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_the_machine_is_shown_to_the_running_authority_and_revoked() {
    let run = Run::new("doctor-token");
    let (ca, store, other) = (Ca::new(&run), Store::redis(&run).await, Store::redis(&run).await);
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(ESXI_HOSTS[0]);
    vcenter.remove_template_host();
    let console = RfbServer::start(ESXI_HOSTS[0]).await;
    let vm = vcenter.create_vm("web-1", ESXI_HOSTS[0], console.address().port());
    let client = ca.issue_for("gateway", GATEWAY);
    let secret = Secret::new(&run, "secret", &ca.issue_for("authority", AUTHORITY), &[&ca]);
    let blocks = ["internal", "public", "metrics"].map(|listener| secret.block(listener)).concat();
    let config = Config::new(&run, &vcenter, NO_GATEWAY).with_store(&store);
    let with_tls = config.clone().with_tls(&blocks, ca.http_client_with(&client));
    set_mode(&run, "vcenter-a.password", 0o600);
    set_mode(&run, "secret/tls.key", 0o600);
    let found = |code: &str| vec![code.to_owned()];
    let tokens = |store: &Store| store.redis_cli(&["--scan", "--pattern", "vncgate:*"]);

    // Over plain HTTP. Authority and `doctor` with two stores are told.
    let authority = Authority::start(&run, config.clone()).await;
    assert_eq!(diagnose(&run, &["--vm", &vm.name]), (Some(0), Vec::new()));
    let (_, stdout, _) = command(&run, &["doctor", "--vm", &vm.name]);
    assert!(stdout.contains("token_granted: ") && stdout.contains("token_revoked: "), "{stdout}");
    // An account that may not write tokens: neither can the running authority.
    store.redis_cli(&["ACL", "SETUSER", "default", "resetkeys", "~vncgate:probe"]);
    let bad = ["token_store", "authority"].map(str::to_owned).to_vec();
    assert_eq!(diagnose(&run, &[]), (Some(1), bad));
    store.redis_cli(&["ACL", "SETUSER", "default", "allkeys"]);
    let log = authority.log();
    assert!(log.contains("session granted") && log.contains("vncgate-doctor"), "{log}");
    run.write(CONFIG_FILE, config.text().replace(&store.url(), &other.url()));
    assert_eq!(diagnose(&run, &["--vm", &vm.name]), (Some(1), found("token_granted")));
    drop(authority);

    // Over TLS, with Envoy's certificate alone.
    let authority = Authority::start(&run, with_tls).await;
    assert_eq!(diagnose(&run, &["--vm", &vm.name]), (Some(0), found("authority")));
    let stranger = ca.issue_for("stranger", &["stranger.example.com"]);
    for (identity, expected) in
        [(&client, (Some(0), Vec::new())), (&stranger, (Some(1), found("authority")))]
    {
        let paths = [&identity.certificate, &identity.key].map(|path| path.display().to_string());
        let [certificate, key] = &paths;
        let shown = ["--client-certificate", certificate, "--client-key", key, "--vm", &vm.name];
        assert_eq!(diagnose(&run, &shown), expected, "{certificate}");
    }
    drop(authority);

    // At a Unix socket.
    let socket = run.path("internal.sock");
    let own = format!("internal = \"{}\"", config.internal());
    let config = config.with(&own, &format!("internal = \"unix:{}\"", socket.display()));
    run.write(CONFIG_FILE, config.text());
    let mut serve = Command::new(workspace::authority());
    serve.args(["serve", "--config"]).arg(run.path(CONFIG_FILE));
    let mut process = Process::start(&run, "at-a-socket", &serve);
    process.ready(async || socket.exists().then_some(())).await;
    assert_eq!(diagnose(&run, &["--vm", &vm.name]), (Some(0), Vec::new()));

    for store in [&store, &other] {
        assert!(!tokens(store).contains("vncgate:token:"), "{}", tokens(store));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_tried_by_way_of_its_sentinels_and_in_a_cluster() {
    let run = Run::new("doctor-store");
    let vcenter = Vcsim::start(&run, &Ca::new(&run)).await;
    vcenter.add_host(ESXI_HOSTS[0]);
    vcenter.remove_template_host();
    let console = RfbServer::start(ESXI_HOSTS[0]).await;
    let vm = vcenter.create_vm("web-1", ESXI_HOSTS[0], console.address().port());
    for mut group in
        [RedisGroup::with_sentinels(&run, None).await, RedisGroup::cluster(&run, None).await]
    {
        let config = Config::new(&run, &vcenter, NO_GATEWAY).with_store_at("redis", &group.url());
        set_mode(&run, "vcenter-a.password", 0o600);
        let authority = Authority::start(&run, config).await;
        assert_eq!(diagnose(&run, &["--vm", &vm.name]), (Some(0), Vec::new()));
        drop(authority);
        group.servers_mut().for_each(Store::kill);
        let (code, _, stderr) = command(&run, &["check-config", "--online"]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("PROBLEM  token_store: "), "{stderr}");
        assert_eq!(stderr.matches("PROBLEM").count(), 1, "{stderr}");
    }
}

#[tokio::test]
async fn open_secrets_and_certificates_near_their_end_are_found_without_a_connection() {
    let run = Run::new("doctor-files");
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    let expiring = |name: &str, left: Duration| {
        ca.issue_with(name, AUTHORITY, |params| {
            params.not_before = (SystemTime::now() - Duration::from_secs(60 * 60)).into();
            params.not_after = (SystemTime::now() + left).into();
        })
    };
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (soon, later) = (expiring("soon", 6 * DAY), expiring("later", 8 * DAY));
    let mut secret = Secret::new(&run, "secret", &soon, &[&ca]);
    let mut peer = Secret::new(&run, "peer", &soon, &[&ca]);
    run.write("redis.password", "redis");
    run.write("sentinel.password", "sentinel");
    let sites = format!(
        "#format = \"text\"\n\n[peer]\ncertificate_file = {:?}\nkey_file = {:?}\nca_file = {:?}\n\n\
         [[site]]\nname = \"site-b\"\nurl = \"https://127.0.0.1:1\"\nservice_hosts = [\"vcenter-b\"]\n",
        run.path("peer/tls.crt"),
        run.path("peer/tls.key"),
        run.path("peer/ca.crt"),
    );
    let passwords =
        "password_file = \"redis.password\"\nsentinel_password_file = \"sentinel.password\"";
    let config = Config::new(&run, &vcenter, NO_GATEWAY)
        .with_store_at("redis", "redis-sentinel://127.0.0.1:1/vncgate")
        .with("#password_file = \"redis.password\"", passwords)
        .with_tls(&secret.block("internal"), plain_http_client())
        .with("#format = \"text\"\n", &sites);
    run.write(CONFIG_FILE, config.text());

    let keys = ["secret/tls.key", "peer/tls.key"];
    let passwords = ["vcenter-a.password", "redis.password", "sentinel.password"];
    let secrets = [&keys[..], &passwords].concat();
    for file in &secrets {
        set_mode(&run, file, 0o644);
    }
    let warned = |found: &str| {
        let (code, _, stderr) = command(&run, &["check-config"]);
        assert_eq!(code, Some(0), "{stderr}");
        stderr.lines().filter(|line| line.contains(found)).map(str::to_owned).collect::<Vec<_>>()
    };
    let open = warned("WARNING  open_secret: ");
    for file in &secrets {
        let path = run.path(file).display().to_string();
        assert!(open.iter().any(|line| line.contains(&path)), "{file}: {open:?}");
        set_mode(&run, file, 0o600);
    }
    assert_eq!(open.len(), secrets.len(), "{open:?}");
    assert_eq!(warned("open_secret"), [""; 0]);

    let ending = warned("WARNING  certificate: ");
    let listed =
        |folder: &str| ending.iter().any(|line| line.contains(&format!("{folder}/tls.crt")));
    assert!(ending.len() == 2 && listed("secret") && listed("peer"), "{ending:?}");
    for secret in [&mut secret, &mut peer] {
        secret.put(&later, &[&ca]);
    }
    for key in keys {
        set_mode(&run, key, 0o600);
    }
    let (code, _, stderr) = command(&run, &["check-config", "--strict"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));

    secret.put(&expiring("over", Duration::ZERO), &[&ca]);
    set_mode(&run, keys[0], 0o600);
    let (code, _, stderr) = command(&run, &["check-config"]);
    assert!(code == Some(1) && stderr.contains("PROBLEM  certificate: "), "{stderr}");
}
