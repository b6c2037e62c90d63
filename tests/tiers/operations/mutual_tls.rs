//! TLS between Envoy and the authority, with `envoy-config/static/mutual-tls/`: certificates rotate on both sides as
//! Kubernetes rotates Secrets, under a live console, and other clients are refused.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::{Ca, Identity, plain_http_client};
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::wait::{until, within};
use vncgate_test_support::workspace::{self, checkout};

/// The names in the certificates, those of the shipped files.
pub(crate) const AUTHORITY: &[&str] = &["authority.example.com", "127.0.0.1"];
pub(crate) const GATEWAY: &[&str] = &["gateway.example.com"];

/// A folder as the kubelet mounts a Secret: files are links into `..data`, and an update replaces that link.
pub(crate) struct Secret {
    folder: PathBuf,
    versions: u32,
}

impl Secret {
    pub(crate) fn new(run: &Run, name: &str, identity: &Identity, ca: &[&Ca]) -> Self {
        let folder = run.path(name);
        fs::create_dir(&folder).expect("make the folder");
        let mut secret = Self { folder, versions: 0 };
        secret.put(identity, ca);
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(format!("..data/{file}"), secret.path(file)).expect("link the file");
        }
        secret
    }

    pub(crate) fn put(&mut self, identity: &Identity, ca: &[&Ca]) {
        let ca: String = ca.iter().map(|ca| ca.pem()).collect();
        let read = |path| fs::read_to_string(path).expect("a PEM file");
        self.put_text(&read(&identity.certificate), &read(&identity.key), &ca);
    }

    fn put_text(&mut self, certificate: &str, key: &str, ca: &str) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        fs::create_dir(self.path(&version)).expect("make the version's folder");
        for (file, text) in [("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)] {
            fs::write(self.path(&version).join(file), text).expect("write the file");
        }
        symlink(&version, self.path("..data_tmp")).expect("link the version");
        fs::rename(self.path("..data_tmp"), self.path("..data")).expect("replace the version");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The block of the authority's configuration for a listener that accepts the gateway.
    pub(crate) fn block(&self, listener: &str) -> String {
        format!(
            "[listen.{listener}_tls]\ncertificate_file = {:?}\nkey_file = {:?}\n\
             client_ca_file = {:?}\nclient_names = {GATEWAY:?}\n",
            self.path("tls.crt"),
            self.path("tls.key"),
            self.path("ca.crt")
        )
    }
}

/// The changes of Envoy's shipped file that the README of `envoy-config/static/` describes, for this folder. Connections to
/// the authority are closed after a second instead of thirty, so that the next one has a handshake.
pub(crate) fn envoy_changes(secret: &Secret) -> Vec<(&'static str, String)> {
    let here = |name: &str| {
        let file = checkout().join("envoy-config/static/mutual-tls").join(name);
        let text = fs::read_to_string(file).expect("read the shipped file");
        text.replace("/etc/envoy/authority", &secret.folder.display().to_string())
    };
    for file in ["certificate.yaml", "ca.yaml"] {
        fs::write(secret.path(file), here(file)).expect("write the file");
    }
    let socket = here("transport-socket.yaml");
    let same = "      transport_socket: *authority_tls\n";
    let clusters = [
        (
            "      load_assignment:\n        cluster_name: vncgate_authority_public\n",
            socket.as_str(),
        ),
        ("      load_assignment: { cluster_name: vncgate_authority_status", same),
        ("      load_assignment: { cluster_name: vncgate_authority_pages", same),
        ("      load_assignment:\n        cluster_name: vncgate_authority_internal\n", same),
    ];
    let mut changes: Vec<_> =
        clusters.iter().map(|(at, before)| (*at, format!("{before}{at}"))).collect();
    let idle = "common_http_protocol_options: { idle_timeout: 30s }";
    changes.push((idle, idle.replace("30s", "1s")));
    changes
}

/// The certificate that a listener shows this client.
async fn shown(listener: SocketAddr, ca: &Ca, client: &Identity) -> Vec<u8> {
    let tcp = TcpStream::connect(listener).await.expect("a listener");
    let name = "authority.example.com".try_into().expect("a name");
    let tls = TlsConnector::from(ca.tls_client_with(client)).connect(name, tcp).await;
    let tls = tls.expect("a handshake");
    tls.get_ref().1.peer_certificates().expect("its certificate")[0].to_vec()
}

const REFUSED: &str = "refused a client at the TLS handshake";

#[tokio::test]
async fn a_console_goes_through_mutual_tls_and_outlives_rotation_on_both_sides() {
    let run = Run::new("mutual-tls");
    let (ca, other_run) = (Ca::new(&run), Run::new("mutual-tls-other-ca"));
    let other_ca = Ca::new(&other_run);
    let first = ca.issue_for("authority-1", AUTHORITY);
    let client = ca.issue_for("gateway-1", GATEWAY);
    let mut authority_secret = Secret::new(&run, "authority-secret", &first, &[&ca]);
    let mut envoy_secret = Secret::new(&run, "envoy-secret", &client, &[&ca]);
    // Prometheus' certificates stay as they are.
    let metrics_secret = Secret::new(&run, "metrics-secret", &first, &[&ca]);
    let blocks = [
        authority_secret.block("internal"),
        authority_secret.block("public"),
        metrics_secret.block("metrics"),
    ];
    let (blocks, http) = (blocks.concat(), ca.http_client_with(&client));
    let changes = envoy_changes(&envoy_secret);
    let tls = |config: Config| config.with_tls(&blocks, http);
    let gateway = Gateway::start_in(run.clone(), ca.clone(), tls, &changes).await;
    let internal = gateway.authority.config().internal();
    let echo = TcpServer::echo(ESXI_HOSTS[0]).await;
    let mut browser = gateway.open(echo.address()).await;
    assert_echoes(&mut browser, "before").await;
    let reads = async |outcome: &str| {
        let metric = "vncgate_tls_certificate_reads_total";
        let labels = format!("{{listener=\"internal\",outcome=\"{outcome}\"}} ");
        gateway.authority.count(&format!("{metric}{labels}")).await
    };
    let stat = async |name: &str| {
        gateway.envoy.stat(&format!("cluster.vncgate_authority_internal.{name}")).await
    };
    let open_by_another_connection = async || {
        // The connection of SDS is never idle.
        until("Envoy has closed idle connections", async || {
            stat("upstream_cx_active").await <= stat("upstream_rq_active").await
        })
        .await;
        let before = stat("ssl.handshake").await;
        assert_echoes(&mut gateway.open(echo.address()).await, "another").await;
        assert!(stat("ssl.handshake").await > before);
    };

    // The authority's certificate.
    let second = ca.issue_for("authority-2", AUTHORITY);
    assert_eq!(shown(internal, &ca, &client).await, first.der());
    authority_secret.put(&second, &[&ca]);
    until("the new certificate is read", async || reads("ok").await == 1).await;
    assert_eq!(shown(internal, &ca, &client).await, second.der());
    open_by_another_connection().await;

    // A certificate without its key changes nothing.
    let text = |path| fs::read_to_string(path).expect("a PEM file");
    authority_secret.put_text(&text(&first.certificate), &text(&second.key), ca.pem());
    until("the wrong pair is noticed", async || reads("failed").await == 1).await;
    assert_eq!(shown(internal, &ca, &client).await, second.der());
    let log = gateway.authority.log();
    assert!(log.contains("is not the key of the certificate in"), "{log}");
    open_by_another_connection().await;

    // Envoy's certificate, by another certificate authority: both are trusted while it changes.
    let updates = async || stat("client_ssl_socket_factory.ssl_context_update_by_sds").await;
    authority_secret.put(&second, &[&ca, &other_ca]);
    until("both certificate authorities are read", async || reads("ok").await == 2).await;
    let before = updates().await;
    envoy_secret.put(&other_ca.issue_for("gateway-2", GATEWAY), &[&ca]);
    until("Envoy has its new certificate", async || updates().await > before).await;
    authority_secret.put(&second, &[&other_ca]);
    until("the old certificate authority is gone", async || reads("ok").await == 3).await;
    let ask = http_get(&ca.http_client_with(&client), internal).await;
    assert!(ask.is_err(), "the old certificate is refused");
    open_by_another_connection().await;
    assert_echoes(&mut browser, "after").await;
}

async fn http_get(http: &reqwest::Client, listener: SocketAddr) -> reqwest::Result<u16> {
    let url = format!("https://{listener}/healthz");
    http.get(url).send().await.map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn clients_without_the_gateway_s_certificate_are_refused_and_logged_once() {
    let run = Run::new("mutual-tls-refused");
    let (ca, other_run) = (Ca::new(&run), Run::new("mutual-tls-stranger"));
    let client = ca.issue_for("gateway", GATEWAY);
    let secret = Secret::new(&run, "authority-secret", &ca.issue_for("a", AUTHORITY), &[&ca]);
    let blocks = ["internal", "public", "metrics"].map(|listener| secret.block(listener)).concat();
    let http = ca.http_client_with(&client);
    let envoy_secret = Secret::new(&run, "envoy-secret", &client, &[&ca]);
    let tls = |config: Config| config.with_tls(&blocks, http.clone()).with_open_files(1024);
    let changes = envoy_changes(&envoy_secret);
    let gateway = Gateway::start_in(run.clone(), ca.clone(), tls, &changes).await;
    let config = gateway.authority.config();
    let echo = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(echo.address()).await;

    let other_name = ca.issue_for("other-name", &["other.example.com"]);
    let strangers = [
        ("no certificate", ca.http_client()),
        ("another name", ca.http_client_with(&other_name)),
        ("another CA", {
            let stranger = Ca::new(&other_run).issue_for("stranger", GATEWAY);
            ca.http_client_with(&stranger)
        }),
    ];
    for listener in [config.internal(), config.public(), config.metrics()] {
        assert!(http_get(&http, listener).await.is_ok());
        for (who, stranger) in &strangers {
            for _ in 0..5 {
                assert!(http_get(stranger, listener).await.is_err(), "{who}");
            }
        }
        let plain = plain_http_client().get(format!("http://{listener}/healthz")).send().await;
        assert!(plain.is_err(), "plain HTTP");
    }
    // A gateway with another one's certificate opens nothing.
    let wrong = Secret::new(&run, "wrong-secret", &other_name, &[&ca]);
    let envoy = Envoy::before("wrong", gateway.authority.listeners(), &envoy_changes(&wrong)).await;
    for _ in 0..3 {
        envoy.send(&token).await.assert_refused(503, "authority_unavailable");
    }
    let log = gateway.authority.log();
    let lines = log.lines().filter(|line| line.contains(REFUSED) && line.contains("internal"));
    let lines: Vec<_> = lines.collect();
    // "BadSignature" since the other certificate authority has the same name as this one.
    for reason in ["no certificates", "BadSignature", "none of client_names: gateway.example.com"] {
        let count = lines.iter().filter(|line| line.contains(reason)).count();
        assert_eq!(count, 1, "{reason}: {lines:#?}");
    }
    assert!(lines.len() <= 5, "{lines:#?}");
    assert!(!log.contains(&token), "a token in the log");
    let refused = "vncgate_tls_handshakes_total{listener=\"internal\",outcome=\"refused\"} ";
    assert!(gateway.authority.count(refused).await >= 18);

    // An authority of another name is not asked.
    let impostor = Secret::new(&run, "impostor", &ca.issue_for("i", &["127.0.0.1"]), &[&ca]);
    let blocks = ["internal", "public", "metrics"].map(|listener| impostor.block(listener));
    let other_run = Run::new("mutual-tls-impostor");
    other_run.write("ca.pem", ca.pem());
    let config = Config::new(&other_run, &gateway.vcenter, NO_GATEWAY);
    let config = config.with_tls(&blocks.concat(), http.clone());
    let other = Authority::start(&other_run, config).await;
    let envoy = Envoy::before("impostor", other.listeners(), &changes).await;
    envoy.send(&token).await.assert_refused(503, "authority_unavailable");

    // Clients that say nothing, from another address, more than there may be: Envoy is let in all the same.
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.9:0".parse().expect("an address")).expect("bind");
        silent.push(socket.connect(gateway.authority.config().internal()).await.expect("connect"));
    }
    assert_echoes(&mut gateway.open(echo.address()).await, "through the crowd").await;
    let mut first = silent.swap_remove(0);
    let end = within("the oldest is closed", first.read_u8()).await;
    assert!(end.is_err(), "nothing was said");
}

#[tokio::test]
async fn the_console_command_and_other_clients_use_a_public_listener_with_tls() {
    let run = Run::new("public-tls");
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(ESXI_HOSTS[0]);
    let secret = Secret::new(&run, "secret", &ca.issue_for("authority", AUTHORITY), &[&ca]);
    // The public listener is open to clients without a certificate, the others are not.
    let public = secret.block("public");
    let public = public.split("client_ca_file").next().expect("the block's beginning");
    let blocks = [public, &secret.block("internal"), &secret.block("metrics")].concat();
    let http = ca.http_client_with(&ca.issue_for("gateway", GATEWAY));
    let config = Config::new(&run, &vcenter, NO_GATEWAY).with_tls(&blocks, http);
    let authority = Authority::start(&run, config).await;
    let vm = vcenter.create_vm("web-1", ESXI_HOSTS[0], 5901);
    let url = format!("https://{}", authority.config().public());
    let printed = run_to_end(
        Command::new(workspace::authority())
            .args(["console", "--url", &url, &vm.name, "--ca-file"])
            .arg(ca.path())
            .env("VNCGATE_API_TOKEN", API_TOKEN),
    );
    let (_, token) = printed.trim_end().split_once("#token=").expect("a console's URL");
    authority.check(token).await.assert_granted(ESXI_HOSTS[0], 5901);

    // curl offers HTTP/2 first.
    let tls = Arc::clone(&ca.tls_client(&["h2", "http/1.1"]));
    let tcp = TcpStream::connect(authority.config().public()).await.expect("a listener");
    let name = "authority.example.com".try_into().expect("a name");
    let connection = TlsConnector::from(tls).connect(name, tcp).await.expect("a handshake");
    assert_eq!(connection.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}
