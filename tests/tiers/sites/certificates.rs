//! Who may ask a site, and whom a site asks: holders of certificates for the hosts of the configured sites.

use crate::fixture::{BERLIN, FILTER_TIMEOUT, Pair, Plan, Site, TOKYO, site};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vncgate_test_support::authority::{Authority, CONFIG_FILE, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::esxi::self_signed;
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::scripted::{Script, ScriptedAuthority};
use vncgate_test_support::stores::Store;
use vncgate_test_support::template::substitute;
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::wait::{LIMIT, SLACK, until};
use vncgate_test_support::workspace::{self, checkout, free_address};

/// The commands and the configuration of docs/sites.md, with the addresses of this machine.
#[tokio::test]
async fn the_documented_commands_make_two_sites() {
    const SITE_A: &str = "authority.site-a.example.com";
    const SITE_B: &str = "authority.site-b.example.com";
    let page = std::fs::read_to_string(checkout().join("docs/sites.md")).expect("the page");
    let block = |language: &str, content: &str| {
        let mut blocks = page.split("```").skip(1).step_by(2);
        let block = blocks.find(|block| block.starts_with(language) && block.contains(content));
        block.expect("a block of the page").trim_start_matches(language).to_owned()
    };
    let (commands, toml) = (block("sh\n", "peer-ca.key"), block("toml\n", "[[site]]"));
    let bash = |run: &Run, commands: &str| {
        run_to_end(Command::new("bash").args(["-ec", commands]).current_dir(run.path(".")))
    };
    let (run, other_run) = (Run::new("site-a"), Run::new("site-b"));
    bash(&run, &substitute(&commands, &[(SITE_A, "localhost".to_owned())]));
    for file in ["peer-ca.key", "peer-ca.pem"] {
        other_run.write(file, std::fs::read(run.path(file)).expect("made by the commands"));
    }
    let (_, own) = commands.split_once("host=").expect("each site's own commands");
    bash(&other_run, &format!("host={}", substitute(own, &[(SITE_A, SITE_B.to_owned())])));

    let store = Store::redis(&run).await;
    let mut vcenters = Vec::new();
    for run in [&run, &other_run] {
        let vcenter = Vcsim::start(run, &Ca::new(run)).await;
        vcenter.add_host(BERLIN.esxi);
        vcenter.remove_template_host();
        vcenters.push(vcenter);
    }
    let end = "#format = \"text\"\n";
    let config = |run, vcenter, toml: &str| {
        let config = Config::new(run, vcenter, NO_GATEWAY);
        config.with_store(&store).with(end, &format!("{end}\n{toml}"))
    };
    let peer = free_address();
    let of_a = config(&run, &vcenters[0], &toml)
        .with(r#"#peer = "192.0.2.10:6084""#, &format!("peer = \"{peer}\""));
    let other_toml = substitute(
        &toml,
        &[
            (
                "https://authority.site-b.example.com:6084",
                format!("https://localhost:{}", peer.port()),
            ),
            ("name = \"site-b\"", "name = \"site-a\"".to_owned()),
            ("vcenter-b", "vcenter-a".to_owned()),
        ],
    );
    let of_b = config(&other_run, &vcenters[1], &other_toml)
        .with(r#"service_host = "vcenter-a""#, r#"service_host = "vcenter-b""#);
    let (a, b) = (Authority::start(&run, of_a).await, Authority::start(&other_run, of_b).await);
    let vm = vcenters[0].create_vm("web-1", BERLIN.esxi, 5901);
    let token = a.api().console(&vm).await.token;
    b.check(&token).await.assert_granted(BERLIN.esxi, 5901);

    let check = |run: &Run| {
        let mut check = Command::new(workspace::authority());
        check.args(["check-config", "--online", "--config"]).arg(run.path(CONFIG_FILE));
        check.output().expect("run the authority")
    };
    // Only `a` listens for other sites.
    let checked = check(&other_run);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    drop(a);
    let checked = check(&other_run);
    let stderr = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("PROBLEM  site: site-a: cannot reach it"), "{stderr}");
}

/// What a site asks about this token, as HTTP.
fn question(token: &str) -> String {
    let token: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({"token": token, "session": "00000000-0000-4000-8000-000000000000"});
    let body = body.to_string();
    format!(
        "POST /v1/sites/console HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks a site's authority as a client with this TLS configuration.
async fn ask(of: &Site, tls: Arc<ClientConfig>, question: &str) -> io::Result<String> {
    let tcp = TcpStream::connect(of.peer).await?;
    let name = ServerName::try_from(of.location.host).expect("a host name");
    let mut connection = TlsConnector::from(tls).connect(name, tcp).await?;
    connection.write_all(question.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_certificate_for_a_configured_site_s_host_is_let_in_and_no_other() {
    let Pair { berlin, ca, .. } = Pair::shared().await;
    let (_, port, token) = berlin.machine_and_token().await;
    let question = question(&token);

    let good = ca.issue_for("good", &[TOKYO.host]);
    let answer = ask(berlin, ca.tls_client_with(&good), &question).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&port.to_string()), "{answer}");

    let run = Run::new("sites-strangers");
    let other_ca = Ca::new(&run);
    let expired = ca.issue_with("expired", &[TOKYO.host], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = ca.issue_with("early", &[TOKYO.host], |params| {
        params.not_before = date_time_ymd(2100, 1, 1);
        params.not_after = date_time_ymd(2101, 1, 1);
    });
    let for_servers = ca.issue_with("for-servers", &[TOKYO.host], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (what, tls) in [
        ("no certificate", ca.tls_client(&[])),
        ("self-signed", ca.tls_client_with(&self_signed(&run, "self-signed", &[TOKYO.host]))),
        ("another CA's", ca.tls_client_with(&other_ca.issue_for("other", &[TOKYO.host]))),
        ("expired", ca.tls_client_with(&expired)),
        ("not valid yet", ca.tls_client_with(&early)),
        ("for servers only", ca.tls_client_with(&for_servers)),
        ("the site's own", ca.tls_client_with(&ca.issue_for("own", &[BERLIN.host]))),
        ("another name's", ca.tls_client_with(&ca.issue_for("name", &["site.example.com"]))),
        ("no name's", ca.tls_client_with(&ca.issue_for(TOKYO.host, &[]))),
    ] {
        let answer = ask(berlin, tls, &question).await;
        let refusal = answer.expect_err(what).to_string();
        assert!(refusal.contains("alert"), "{what}: told by TLS, not by silence: {refusal}");
    }
    let log = berlin.authority.log();
    for reason in ["UnknownIssuer", "expired", "none of the hosts of the [[site]]s: 127.0.3.2"] {
        assert!(log.contains(reason), "{reason} in {log}");
    }
    assert!(!log.contains(&token), "a token in the log");
}

#[tokio::test]
async fn plain_http_is_not_answered() {
    let Pair { berlin, .. } = Pair::shared().await;
    let (_, _, token) = berlin.machine_and_token().await;
    for sent in [question(&token).as_str(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut connection = TcpStream::connect(berlin.peer).await.expect("a listener");
        connection.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // It may be a TLS alert, and the end may be a reset.
        let _ = connection.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_site_may_ask_its_two_questions_and_nothing_else() {
    let Pair { berlin, ca, .. } = Pair::shared().await;
    let (_, _, token) = berlin.machine_and_token().await;
    let good = ca.tls_client_with(&ca.issue_for("curious", &[TOKYO.host]));
    let send =
        async |request: &str| ask(berlin, Arc::clone(&good), request).await.expect("an answer");
    for path in ["/metrics", "/readyz", "/console/status", "/v1/vms", "/", "/v1/sites/console"] {
        let answer =
            send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    let check = question(&token).replace("/v1/sites/console", "/v1/check");
    assert!(send(&check).await.starts_with("HTTP/1.1 404"));
    let many = "x".repeat(20_000);
    for (body, status) in [("", 400), ("{", 400), (r#"{"token": "00"}"#, 400), (many.as_str(), 413)]
    {
        let answer = send(&format!(
            "POST /v1/sites/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{body:.20}: {answer}");
    }
}

/// Strangers that connect and say nothing hold up no site.
#[tokio::test]
async fn stalled_handshakes_keep_nobody_out() {
    let Pair { berlin, tokyo, .. } = &Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    let mut stalled = Vec::new();
    for _ in 0..60 {
        stalled.push(TcpStream::connect(berlin.peer).await.expect("a listener"));
    }
    let started = Instant::now();
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    assert!(started.elapsed() < FILTER_TIMEOUT + SLACK, "{:?}", started.elapsed());
    // More of them wait in the kernel, and their turn comes when the first have been thrown out.
    for _ in 0..100 {
        stalled.push(TcpStream::connect(berlin.peer).await.expect("a listener"));
    }
    berlin.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    for mut connection in stalled {
        let end = tokio::time::timeout(2 * LIMIT, connection.read_u8()).await;
        assert!(end.expect("the end in time").is_err(), "thrown out");
    }
    until("an answer again", async || tokyo.authority.check(&token).await.status == 200).await;
}

/// An impostor at the other site's address has no certificate for its name.
#[tokio::test]
async fn an_impostor_is_told_nothing() {
    let ca = Ca::new(&Run::new("sites-impostor"));
    let store = Store::redis(&Run::new("sites-redis")).await;
    let run = Run::new("impostor");
    let other_ca = Ca::new(&run);
    let expired = ca.issue_with("expired", &[BERLIN.host], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let berlin = Plan::new(&BERLIN).await.start(&ca, &store, "", &site("x", "x", 1, &["x"])).await;
    let (_, _, token) = berlin.machine_and_token().await;
    for (what, identity) in [
        ("another name's", ca.issue_for("wrong-name", &["localhost.example.com"])),
        ("another CA's", other_ca.issue_for("wrong-ca", &[BERLIN.host])),
        ("self-signed", self_signed(&run, "self-signed", &[BERLIN.host])),
        ("expired", expired),
    ] {
        let impostor = ScriptedAuthority::start_site(Script::Silence, &identity).await;
        let other =
            site(BERLIN.name, BERLIN.host, impostor.address().port(), &[BERLIN.service_host]);
        let tokyo = Plan::new(&TOKYO).await.start(&ca, &store, "", &other).await;
        tokyo.authority.check(&token).await.assert_refused(503, "authority_unavailable");
        let log = tokyo.authority.log();
        assert!(log.contains("site berlin") && log.contains("certificate"), "{what}: {log}");
        assert_eq!(impostor.requests().len(), 0, "{what}");
    }
}

/// What the listener for other sites has read again, and whether it could.
async fn reads(site: &Site, outcome: &str) -> u64 {
    let name = "vncgate_tls_certificate_reads_total";
    let metric = format!("{name}{{listener=\"peer\",outcome=\"{outcome}\"}} ");
    site.authority.count(&metric).await
}

/// Certificates and their authority are changed under running authorities, as `docs/sites.md` says.
#[tokio::test]
async fn certificates_and_their_authority_change_without_a_restart() {
    let Pair { berlin, tokyo, ca, .. } = &Pair::start("").await;
    let next = Ca::new(&Run::new("sites-next"));
    let (_, of_berlin, berlins) = berlin.machine_and_token().await;
    let (_, of_tokyo, tokyos) = tokyo.machine_and_token().await;
    let both_ways = async |what: &str| {
        for (asked, token, host, port) in
            [(tokyo, &berlins, BERLIN.esxi, of_berlin), (berlin, &tokyos, TOKYO.esxi, of_tokyo)]
        {
            let answer = asked.authority.check(token).await;
            assert_eq!(answer.status, 200, "{what}: {}", answer.body);
            answer.assert_granted(host, port);
        }
    };
    let old = ca.issue_for("old", &[TOKYO.host]);
    let put = |path: &std::path::Path, text: &str| {
        let part = path.with_extension("part");
        std::fs::write(&part, text).expect("write a file");
        std::fs::rename(part, path).expect("put it in its place");
    };
    both_ways("before").await;

    // Both authorities read the one file.
    put(ca.path(), &format!("{}{}", ca.pem(), next.pem()));
    for site in [berlin, tokyo] {
        until("the new certificate authority is read", async || reads(site, "ok").await == 1).await;
    }
    for site in [berlin, tokyo] {
        let name = site.location.name;
        let file = |kind: &str| ca.path().with_file_name(format!("{name}.{kind}"));
        let identity = next.issue_for(name, &[site.location.host]);
        // Between the two there is a certificate without its key: the old pair stays.
        put(&file("crt"), &identity.pem());
        until("half of a pair is refused", async || reads(site, "failed").await >= 1).await;
        both_ways("with half of a pair").await;
        let before = reads(site, "ok").await;
        put(&file("key"), &std::fs::read_to_string(&identity.key).expect("the key"));
        until("the pair is read", async || reads(site, "ok").await > before).await;
        both_ways("with one new pair").await;
    }
    let before = [reads(berlin, "ok").await, reads(tokyo, "ok").await];
    put(ca.path(), next.pem());
    for (site, before) in [berlin, tokyo].into_iter().zip(before) {
        until("the old authority is gone", async || reads(site, "ok").await > before).await;
    }
    both_ways("with the new certificates alone").await;
    let refused = ask(berlin, next.tls_client_with(&old), &question(&berlins)).await;
    let refusal = refused.expect_err("the old authority's").to_string();
    assert!(refusal.contains("alert"), "{refusal}");
    let log = berlin.authority.log();
    assert!(log.contains("read the changed certificate for other sites"), "{log}");
    assert!(!log.contains("SIGHUP"), "{log}");
}

/// A site that comes is let in by SIGHUP, one that goes is not any more.
#[tokio::test]
async fn a_reload_changes_which_sites_may_ask() {
    let ca = Ca::new(&Run::new("sites"));
    let store = Store::redis(&Run::new("sites-redis")).await;
    let others = site("x", "x.example.com", 1, &["x"]);
    let berlin = Plan::new(&BERLIN).await.start(&ca, &store, "", &others).await;
    let (_, port, token) = berlin.machine_and_token().await;
    let [x, tokyo] = [("x", "x.example.com"), ("t", TOKYO.host)]
        .map(|(name, host)| ca.tls_client_with(&ca.issue_for(name, &[host])));
    let asks =
        async |tls: &Arc<ClientConfig>| ask(&berlin, Arc::clone(tls), &question(&token)).await;
    assert!(asks(&x).await.expect("an answer").contains(&port.to_string()));
    assert!(asks(&tokyo).await.is_err());
    let next = site(TOKYO.name, TOKYO.host, 1, &[TOKYO.service_host]);
    let config = berlin.authority.config().clone().with(&others, &next);
    assert!(berlin.authority.reload(&config).await);
    assert!(asks(&tokyo).await.expect("an answer").contains(&port.to_string()));
    assert!(asks(&x).await.is_err());
}
