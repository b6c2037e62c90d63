//! `doctor` and `check-config` on a whole installation: silent about what is right, and each fault is found by its name.

use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use vncgate_authority::doctor::{Report, envoy};
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::RfbServer;
use vncgate_test_support::workspace::{self, free_address_of};

/// Runs a command of the authority with the gateway's configuration.
fn run(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(workspace::authority());
    command.env_clear().args(arguments).arg("--config").arg(gateway.run.path("authority.toml"));
    let Output { status, stdout, stderr } = command.output().expect("run the authority");
    let text = |bytes| String::from_utf8(bytes).expect("its output is text");
    (status.code(), text(stdout), text(stderr))
}

/// The findings of `doctor` that are not good, by their codes, and its exit code.
fn diagnose(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let (code, stdout, stderr) = run(gateway, &[&["doctor", "--json"], arguments].concat());
    let report: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    let findings = report["findings"].as_array().expect("findings");
    let bad = findings.iter().filter(|finding| finding["severity"] != "good");
    for finding in bad.clone() {
        assert!(finding["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{finding}");
    }
    (code, bad.map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect())
}

fn close(gateway: &Gateway, file: &str, mode: u32) {
    let path = gateway.run.path(file);
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("change a file's mode");
}

/// What `doctor` finds in an Envoy's configuration that is not good.
fn examined(dump: &Value) -> Vec<&'static str> {
    let mut report = Report::default();
    envoy::examine(dump, &mut report);
    let bad = report.findings.iter().filter(|finding| !finding.mend.is_empty());
    bad.map(|finding| finding.code).collect()
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

#[tokio::test]
async fn the_shipped_installation_is_good_and_each_fault_is_found() {
    let mut gateway = Gateway::start("doctor").await;
    let console = RfbServer::start(ESXI_HOSTS[0]).await;
    let vm = gateway.machine_at(console.address());
    let closed = free_address_of(ESXI_HOSTS[0]);
    let unreachable = gateway.vcenter.create_vm("closed-1", closed.ip(), closed.port());
    close(&gateway, "vcenter-a.password", 0o600);

    let admin = gateway.envoy.admin_url();
    let everything = ["--vm", &vm.name, "--envoy-admin", &admin];
    assert_eq!(diagnose(&gateway, &everything), (Some(0), Vec::new()));
    let (code, stdout, _) = run(&gateway, &[&["doctor"], &everything[..]].concat());
    assert!(code == Some(0) && stdout.contains("esxi_vnc: "), "{stdout}");
    let (code, stdout, stderr) = run(&gateway, &["check-config", "--online", "--strict"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");

    for (vm, found) in [(unreachable.name.as_str(), "esxi_vnc"), ("no-such-machine", "machine")] {
        assert_eq!(diagnose(&gateway, &["--vm", vm]), (Some(1), vec![found.to_owned()]), "{vm}");
    }
    let nothing_there = ["--envoy-admin", "http://127.0.0.1:1"];
    assert_eq!(diagnose(&gateway, &nothing_there), (Some(1), vec!["envoy_admin".to_owned()]));

    // A warning does not fail, unless asked to.
    close(&gateway, "vcenter-a.password", 0o644);
    assert_eq!(diagnose(&gateway, &[]), (Some(0), vec!["open_secret".to_owned()]));
    let (code, _, stderr) = run(&gateway, &["check-config"]);
    assert!(code == Some(0) && stderr.contains("WARNING  open_secret"), "{stderr}");
    assert_eq!(run(&gateway, &["check-config", "--strict"]).0, Some(1));
    close(&gateway, "vcenter-a.password", 0o600);

    // vCenter refuses the login, then is gone; the authority is gone as well.
    let password = std::fs::read(gateway.run.path("vcenter-a.password")).expect("the password");
    gateway.run.write("vcenter-a.password", "wrong");
    assert_eq!(diagnose(&gateway, &[]), (Some(1), vec!["vcenter_login".to_owned()]));
    assert_eq!(run(&gateway, &["check-config"]).0, Some(0), "it connects to nothing");
    assert_eq!(run(&gateway, &["check-config", "--online"]).0, Some(1));
    std::fs::write(gateway.run.path("vcenter-a.password"), password).expect("write it again");
    gateway.vcenter.stop();
    gateway.authority.kill();
    let both = vec!["vcenter_login".to_owned(), "authority".to_owned()];
    assert_eq!(diagnose(&gateway, &[]), (Some(1), both));
}

#[tokio::test]
async fn each_fault_of_an_envoy_is_found_by_its_name() {
    let gateway = Gateway::start("doctor-envoy").await;
    let dump = dump_of(&gateway, &gateway.envoy).await;
    assert_eq!(examined(&dump), [] as [&str; 0]);

    // Faults that Envoy starts with.
    for (literal, replacement, found) in [
        (
            "    - name: vncgate_esxi_vnc\n",
            "    - name: vncgate_esxi_vnc\n      original_dst_lb_config: { use_http_header: true }\n",
            &["use_http_header"][..],
        ),
        (
            "path: \"%FILTER_STATE(wasm.vncgate.path:PLAIN)%\"",
            "path: \"%REQ(:PATH)%\"",
            &["access_log"],
        ),
        (
            "per_connection_buffer_limit_bytes: 655360",
            "per_connection_buffer_limit_bytes: 262144",
            &["buffers", "buffers"],
        ),
        ("request_timeout: 30s", "request_timeout: 0s", &["request_timeout"]),
        ("timeout: 0s # a session lasts", "timeout: 15s # a session lasts", &["route_timeout"]),
    ] {
        let changes = [(literal, replacement.to_owned())];
        let envoy = gateway.envoy_with(&changes).await;
        assert_eq!(examined(&dump_of(&gateway, &envoy).await), found, "{replacement}");
    }

    // Faults of the order, and parts that are not there, in what a real Envoy says of itself.
    type Fault = fn(&mut Value);
    let faults: [(&str, Fault); 6] = [
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
        assert_eq!(examined(&dump), [found], "{found}");
    }
}
