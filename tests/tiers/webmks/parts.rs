//! The stand-ins for ESXi hosts and the scripted RFB server, seen by clients that share no code with the
//! gateway: `govc`, rustls, tungstenite and QEMU.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use url::Url;
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::esxi::{Esxi, HostBehavior, expired, self_signed};
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::rfb_script::{
    Login, NONE, PASSWORD, RESPONSE, Script, ScriptedRfb, Step, VNC_AUTHENTICATION,
};
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::screen::{Qemu, TcpServer};
use vncgate_test_support::session::next_binary;
use vncgate_test_support::vcsim::{Options, Vcsim, Vm};
use vncgate_test_support::wait::until;
use vncgate_test_support::wait::until_some;
use vncgate_test_support::webmks::{self, HostSettings, WITHOUT_VNC};
use vncgate_test_support::workspace::free_address_of;

const ESXI: IpAddr = ESXI_HOSTS[0];
const OTHER_ESXI: IpAddr = ESXI_HOSTS[1];
type Console = WebSocketStream<TlsStream<TcpStream>>;

/// Opens a console as a client does that trusts one certificate.
async fn open(url: &str, trusted: &Identity) -> Result<Console, Error> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(trusted.pem().as_bytes()).expect("PEM");
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports them")
        .with_root_certificates(roots)
        .with_no_client_auth();

    let location = Url::parse(url).expect("a URL");
    let host = location.host_str().expect("a host").to_owned();
    let address: SocketAddr = location.socket_addrs(|| None).expect("an IP literal")[0];
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host).expect("a server name");
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;

    let mut request = url.into_client_request()?;
    let subprotocol = "binary".parse().expect("a header value");
    request.headers_mut().insert("sec-websocket-protocol", subprotocol);
    let (console, answer) = tokio_tungstenite::client_async(request, tls).await?;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "binary");
    Ok(console)
}

/// A ticket of a machine as the URL of its console, from `govc`.
fn ticket(vcenter: &Vcsim, vm: &Vm) -> String {
    vcenter.govc(&["vm.console", "-wss", &vm.name]).trim().to_owned()
}

async fn start(name: &str) -> (Vcsim, Esxi, Run) {
    let run = Run::new(name);
    let ca = Ca::new(&run);
    let (vcenter, esxi) = webmks::start(&run, &ca).await;
    (vcenter, esxi, run)
}

#[tokio::test]
async fn a_ticket_opens_the_console_of_a_guest() {
    let (vcenter, esxi, run) = start("webmks-guest").await;
    let name = ESXI.to_string();
    let identity = self_signed(&run, "esx-1", &[&name]);
    let address = esxi.add_host_named(&vcenter, &name, ESXI, WITHOUT_VNC, &identity).await;
    let screen = free_address_of(ESXI);
    let _guest = Qemu::start(&run, screen).await;
    let vm = esxi.create_vm(&vcenter, "web1", &name, screen).await;

    let url = ticket(&vcenter, &vm);
    assert!(url.starts_with(&format!("wss://{address}/ticket/")), "{url}");
    let mut console = open(&url, &identity).await.expect("a console");
    assert_eq!(next_binary(&mut console).await, RFB_VERSION.as_slice());
    assert_eq!(esxi.consoles(&vm).await, 1);

    let again = open(&url, &identity).await.expect_err("the ticket is used up");
    assert!(matches!(&again, Error::Http(answer) if answer.status() == 404), "{again}");

    drop(console);
    until("the console is closed", async || esxi.consoles(&vm).await == 0).await;
    let host = esxi.host(&name).await;
    assert_eq!(host.tickets, 1);
    let outcomes: Vec<_> = host.upgrades.iter().map(|upgrade| upgrade.outcome.as_str()).collect();
    assert_eq!(outcomes, ["relay", "bad ticket"]);
    let upgrade = &host.upgrades[0];
    assert_eq!(upgrade.vm, vm.instance_uuid);
    assert!(url.ends_with(&upgrade.target), "{}", upgrade.target);
    assert_eq!(upgrade.header("host"), [address.to_string()]);
    let names = [
        "connection",
        "host",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
    ];
    assert_eq!(upgrade.header_names(), names);
}

#[tokio::test]
async fn a_ticket_outlives_neither_its_time_nor_a_vcenter_that_is_gone() {
    let run = Run::new("webmks-lifetime");
    let lifetime = Duration::from_secs(3);
    let ca = Ca::new(&run);
    let esxi = Esxi::start_with(&run, lifetime).await;
    let options = Options { esxi: Some(esxi.control_url().to_owned()), ..Options::default() };
    let mut vcenter = Vcsim::start_with(&run, &ca, options).await;
    let name = ESXI.to_string();
    vcenter.add_host(ESXI);
    let identity = self_signed(&run, "esx-1", &[&name]);
    esxi.set_host(&name, ESXI, &identity, HostBehavior::Relay).await;
    let screen = TcpServer::echo(ESXI).await;
    let vm = vcenter.create_vm_without_vnc("web1", &name);
    esxi.set_screen(&vm, screen.address()).await;

    let (used, kept) = (ticket(&vcenter, &vm), ticket(&vcenter, &vm));
    let _console = open(&used, &identity).await.expect("a console");
    vcenter.stop();
    tokio::time::sleep(lifetime).await;
    let late = open(&kept, &identity).await.expect_err("the ticket has expired");
    assert!(matches!(&late, Error::Http(answer) if answer.status() == 404), "{late}");
    assert_eq!(esxi.consoles(&vm).await, 1, "the open console stays");
}

#[tokio::test]
async fn certificates_of_hosts_are_what_a_test_makes_them() {
    let (vcenter, esxi, run) = start("webmks-certificates").await;
    let (name, other) = (ESXI.to_string(), OTHER_ESXI.to_string());
    let known = self_signed(&run, "known", &[&name]);
    esxi.add_host_named(&vcenter, &name, ESXI, WITHOUT_VNC, &known).await;
    let screen = TcpServer::echo(ESXI).await;
    let vm = esxi.create_vm(&vcenter, "web1", &name, screen.address()).await;
    open(&ticket(&vcenter, &vm), &known).await.expect("the certificate is good");

    let unknown = self_signed(&run, "unknown", &[&name]);
    let misnamed = self_signed(&run, "misnamed", &[&other]);
    let expired = expired(&run, "expired", &[&name]);
    for (presented, trusted) in [(&unknown, &known), (&misnamed, &misnamed), (&expired, &expired)] {
        esxi.set_host(&name, ESXI, presented, HostBehavior::Relay).await;
        let refused = open(&ticket(&vcenter, &vm), trusted).await.expect_err("a bad one");
        assert!(matches!(&refused, Error::Io(error) if error.kind() == io::ErrorKind::InvalidData));
    }
    assert_eq!(esxi.host(&name).await.upgrades.len(), 1, "only the first got so far");
}

#[tokio::test]
async fn hosts_answer_upgrades_as_told() {
    let (vcenter, esxi, run) = start("webmks-answers").await;
    let name = ESXI.to_string();
    let identity = self_signed(&run, "esx-1", &[&name]);
    esxi.add_host_named(&vcenter, &name, ESXI, WITHOUT_VNC, &identity).await;
    let vm = vcenter.create_vm_without_vnc("web1", &name);

    for (answer, status) in [(HostBehavior::Page, 200), (HostBehavior::Forbidden, 403)] {
        esxi.set_host(&name, ESXI, &identity, answer).await;
        let error = open(&ticket(&vcenter, &vm), &identity).await.expect_err("no console");
        assert!(matches!(&error, Error::Http(got) if got.status() == status), "{error}");
    }
    esxi.set_host(&name, ESXI, &identity, HostBehavior::Reset).await;
    let error = open(&ticket(&vcenter, &vm), &identity).await.expect_err("no console");
    assert!(matches!(&error, Error::Io(got) if got.kind() == io::ErrorKind::ConnectionReset));
    esxi.set_host(&name, ESXI, &identity, HostBehavior::Silence).await;
    let url = ticket(&vcenter, &vm);
    let silence = tokio::time::timeout(Duration::from_secs(1), open(&url, &identity)).await;
    assert!(silence.is_err(), "answered: {silence:?}");
}

#[tokio::test]
async fn a_vcenter_says_of_its_hosts_what_a_test_makes_it_say() {
    let (vcenter, esxi, run) = start("webmks-inventory").await;
    let name = "esx-1.example.com";
    let identity = self_signed(&run, "esx-1", &[name]);
    esxi.add_host_named(&vcenter, name, ESXI, "6.5.0", &identity).await;
    let settings = HostSettings {
        version: Some(WITHOUT_VNC.to_owned()),
        ticket_host: Some(String::new()),
        ..HostSettings::default()
    };
    vcenter.set_host(name, &settings).await;

    let path = format!("/DC0/host/DC0_C0/{name}");
    let version = vcenter.govc(&["object.collect", "-s", &path, "summary.config.product.version"]);
    assert_eq!(version.trim(), WITHOUT_VNC);
    let vm = vcenter.create_vm_without_vnc("web1", name);
    let url = ticket(&vcenter, &vm);
    assert!(url.starts_with("wss://:"), "a host in {url}");
}

#[tokio::test]
async fn a_machine_can_be_denied_to_the_authority() {
    let (vcenter, esxi, _run) = start("webmks-denied").await;
    esxi.add_host(&vcenter, ESXI, WITHOUT_VNC).await;
    let screen = TcpServer::echo(ESXI).await;
    let vm = esxi.create_vm(&vcenter, "web1", &ESXI.to_string(), screen.address()).await;
    vcenter.deny(&vm.name);
    let output = vcenter.try_govc(&["vm.console", "-wss", &vm.name]);
    let error = output.expect_err("no ticket");
    assert!(error.contains("NoPermission"), "{error}");
}

#[tokio::test]
async fn qemu_asks_for_its_password() {
    let run = Run::new("webmks-password");
    let address = free_address_of(ESXI);
    let _guest = Qemu::start_with_password(&run, address, PASSWORD).await;
    let mut client = TcpStream::connect(address).await.expect("connect");
    let mut greeting = [0; 12];
    client.read_exact(&mut greeting).await.expect("ProtocolVersion");
    assert_eq!(greeting, RFB_VERSION.as_slice());
    client.write_all(RFB_VERSION.as_slice()).await.expect("answer");
    let mut offer = [0; 2];
    client.read_exact(&mut offer).await.expect("security types");
    assert_eq!(offer, [1, VNC_AUTHENTICATION]);
    client.write_all(&[VNC_AUTHENTICATION]).await.expect("choose");
    let mut challenge = [0; 16];
    client.read_exact(&mut challenge).await.expect("a challenge");
    client.write_all(&[0; 16]).await.expect("a wrong response");
    assert_eq!(client.read_u32().await.expect("SecurityResult"), 1);
}

/// What a client does that a script should understand, without any cryptography: it answers the one
/// challenge that scripted servers send.
async fn log_in(address: SocketAddr, minor: u8, response: &[u8; 16]) -> io::Result<TcpStream> {
    let mut client = TcpStream::connect(address).await?;
    let version = format!("RFB 003.{minor:03}\n");
    let mut greeting = [0; 12];
    client.read_exact(&mut greeting).await?;
    assert_eq!(greeting, version.as_bytes());
    client.write_all(version.as_bytes()).await?;
    let security = if minor == 3 {
        u8::try_from(client.read_u32().await?).expect("a security type")
    } else {
        let mut offered = vec![0; client.read_u8().await?.into()];
        client.read_exact(&mut offered).await?;
        client.write_all(&offered[..1]).await?;
        offered[0]
    };
    if security == VNC_AUTHENTICATION {
        let mut challenge = [0; 16];
        client.read_exact(&mut challenge).await?;
        client.write_all(response).await?;
    }
    if (security != NONE || minor >= 8) && client.read_u32().await? != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    client.write_all(&[1]).await?;
    let mut init = [0; 32];
    client.read_exact(&mut init).await?;
    assert_eq!(&init[24..], b"scripted");
    Ok(client)
}

#[tokio::test]
async fn a_scripted_server_speaks_each_version() {
    for minor in [3, 7, 8] {
        for security in [NONE, VNC_AUTHENTICATION] {
            let script = Script::new(minor, &[security]).in_single_bytes();
            let server = ScriptedRfb::start(ESXI, script).await;
            let mut client = log_in(server.address(), minor, &RESPONSE).await.expect("a session");
            client.write_all(b"echo").await.expect("send");
            let mut echo = [0; 4];
            client.read_exact(&mut echo).await.expect("the echo");
            assert_eq!(&echo, b"echo");
            let expected = Login {
                version: format!("RFB 003.{minor:03}\n").into_bytes(),
                security: Some(security),
                authenticated: (security == VNC_AUTHENTICATION).then_some(true),
                shared: Some(1),
            };
            assert_eq!(server.logins(), [expected]);
        }
    }
}

#[tokio::test]
async fn a_scripted_server_refuses_a_wrong_password() {
    for minor in [3, 7, 8] {
        let script = Script::new(minor, &[VNC_AUTHENTICATION]);
        let server = ScriptedRfb::start(ESXI, script).await;
        let refused = log_in(server.address(), minor, &[0; 16]).await.expect_err("no session");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        until_some("the handshake is over", async || {
            let logins = server.logins();
            logins.first().map(|login| assert_eq!(login.authenticated, Some(false)))
        })
        .await;
    }
}

#[tokio::test]
async fn a_scripted_server_deviates_where_told() {
    let garbage = Script::new(8, &[NONE]).send_instead(Step::Version, *b"HTTP/1.1 400");
    let server = ScriptedRfb::start(ESXI, garbage).await;
    let mut client = TcpStream::connect(server.address()).await.expect("connect");
    let mut greeting = [0; 12];
    client.read_exact(&mut greeting).await.expect("the garbage");
    assert_eq!(&greeting, b"HTTP/1.1 400");

    let closed = ScriptedRfb::start(ESXI, Script::new(8, &[NONE]).close_at(Step::Security)).await;
    let error = log_in(closed.address(), 8, &RESPONSE).await.expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

    let silent = ScriptedRfb::start(ESXI, Script::new(8, &[NONE]).silent_at(Step::Init)).await;
    let session = log_in(silent.address(), 8, &RESPONSE);
    let silence = tokio::time::timeout(Duration::from_millis(300), session).await;
    assert!(silence.is_err(), "went on: {silence:?}");
}
