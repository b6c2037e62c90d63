//! nginx before Envoy, as `docs/operations.md` configures it, and as it is by default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use tokio::net::TcpStream;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::CONSOLES;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::template::substitute;
use vncgate_test_support::websocket::{Frontend, Upgrade};
use vncgate_test_support::workspace::{checkout, free_address};

/// The address of the browsers. Only nginx sees it, and tells Envoy.
const BROWSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));

/// A running nginx.
struct Nginx {
    address: SocketAddr,
    ca: Ca,
    _process: Process,
}

impl Nginx {
    /// Starts one with this `server` block before an Envoy.
    async fn start(run: &Run, ca: &Ca, server: &str, envoy: SocketAddr) -> Self {
        let address = free_address();
        let identity = ca.issue_for("nginx", &["127.0.0.1", CONSOLES]);
        let table = [
            ("listen 443 ssl", format!("listen {address} ssl")),
            ("/etc/nginx/tls/tls.crt", identity.certificate.display().to_string()),
            ("/etc/nginx/tls/tls.key", identity.key.display().to_string()),
            ("/etc/nginx/tls/envoy-ca.pem", ca.path().display().to_string()),
            ("https://10.0.0.10", format!("https://{envoy}")),
        ];
        let table: Vec<_> = table.into_iter().filter(|(line, _)| server.contains(line)).collect();
        let server = substitute(server, &table);
        let folder = run.path("nginx");
        std::fs::create_dir_all(&folder).expect("a folder for nginx");
        let folder = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
            .concat();
        // One process: the workers of a master that is killed would stay.
        let text = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
             events {{}}\nhttp {{\naccess_log {folder}/access.log;\n{temporary}\n{server}\n}}\n"
        );
        let file = run.write("nginx.conf", text);
        let mut command = Command::new("nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(file);
        let mut process = Process::start(run, "nginx", &command);
        process.ready(async || TcpStream::connect(address).await.ok().map(drop)).await;
        Self { address, ca: ca.clone(), _process: process }
    }

    /// A browser's upgrade with this token.
    fn upgrade(&self, token: &str) -> Upgrade {
        let name = Some(CONSOLES.to_owned());
        let nginx = Frontend { address: self.address, name, ca: self.ca.clone() };
        Upgrade::with_token(nginx, token).from(BROWSER)
    }
}

/// The `server` block of docs/operations.md.
fn documented() -> String {
    let page = checkout().join("docs/operations.md");
    let page = std::fs::read_to_string(page).expect("docs/operations.md");
    let (_, section) = page.split_once("## Another proxy in front").expect("the section");
    let (_, block) = section.split_once("```nginx\n").expect("a block for nginx");
    block.split_once("```").expect("its end").0.to_owned()
}

/// A gateway that trusts one proxy before it, with a console and further keys of the filter.
async fn gateway(keys: &str) -> (Gateway, TcpServer, String) {
    let use_remote_address = "use_remote_address: true\n";
    let trusted = "                xff_num_trusted_hops: 1\n";
    let allowed_origins = "\"allowed_origins\": []";
    let changes = [
        (use_remote_address, format!("{use_remote_address}{trusted}")),
        (allowed_origins, format!("{allowed_origins}{keys}")),
    ];
    let gateway = Gateway::start_with("proxy", |config| config, &changes).await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    (gateway, screen, token)
}

/// `hosts` as the shipped README has it set.
const HOSTS: &str = r#", "hosts": ["consoles.example.com"]"#;

#[tokio::test]
async fn consoles_open_through_nginx_as_it_is_documented() {
    let (gateway, _screen, token) = gateway(HOSTS).await;
    let (run, ca, envoy) = (Run::new("nginx"), &gateway.ca, gateway.envoy.address());
    let nginx = Nginx::start(&run, ca, &documented(), envoy).await;
    let host = format!("{CONSOLES}:{}", nginx.address.port());
    let answer = nginx.upgrade(&token).send().await;
    let request_id = answer.header("x-request-id").expect("a request id").to_owned();
    assert_echoes(&mut answer.into_websocket().await, "typed").await;
    let entry = gateway.envoy.entry(None, &request_id).await;
    assert_eq!(entry["http_host"], host, "the browser's, port included");
    assert_eq!(entry["client"], BROWSER.to_string());

    let http = gateway.ca.http_client_of(&[CONSOLES], nginx.address);
    let page = http.get(format!("https://{host}/console.html")).send().await;
    assert_eq!(page.expect("a page").status(), 200);
    // The page of another site is refused as without nginx.
    let cross_site = nginx.upgrade(&token).header("Origin", "https://evil.example");
    cross_site.send().await.assert_refused(403, "origin");
}

#[tokio::test]
async fn nginx_s_defaults_are_refused_with_a_reason() {
    let host = "proxy_set_header Host $http_host;";
    let upgrade = "proxy_set_header Upgrade $http_upgrade;";
    let connection = "proxy_set_header Connection \"upgrade\";";
    for (keys, left_out, status, code) in [
        // Envoy gets the address in `proxy_pass`.
        (HOSTS, &[host][..], 403, Some("host")),
        ("", &[host], 403, Some("origin")),
        // nginx makes a plain request of it, which is for a page.
        (HOSTS, &[upgrade, connection], 404, None),
    ] {
        let (gateway, _screen, token) = gateway(keys).await;
        let mut server = documented();
        for line in left_out {
            assert!(server.contains(line), "{line}");
            server = server.replace(line, "");
        }
        let run = Run::new("nginx");
        let nginx = Nginx::start(&run, &gateway.ca, &server, gateway.envoy.address()).await;
        let answer = nginx.upgrade(&token).send().await;
        match code {
            Some(code) => answer.assert_refused(status, code),
            None => assert_eq!(answer.status, status, "{}", answer.body),
        }
    }
}
