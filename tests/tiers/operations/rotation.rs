//! Each credential and each certificate changes while a console is open, and new consoles open as before.

use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::fs;
use vncgate_test_support::authority::new_api_token;
use vncgate_test_support::console_api::API_TOKEN_SHA256;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::vcsim::PASSWORD;

const NEW_PASSWORD: &str = "the n&xt one";

#[tokio::test]
async fn the_password_of_vcenter_changes() {
    let gateway = Gateway::start("rotated-password").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    let mut open = gateway.envoy.open(&token).await;

    // The session with vCenter outlives the old password, and the next login reads the new one.
    gateway.vcenter.set_password(NEW_PASSWORD).await;
    gateway.run.write("vcenter-a.password", NEW_PASSWORD);
    gateway.envoy.open(&token).await;
    gateway.vcenter.end_sessions();
    gateway.envoy.open(&token).await;

    // In the wrong order: until the file has the new password, there is a refusal with a reason.
    gateway.vcenter.set_password(PASSWORD).await;
    gateway.vcenter.end_sessions();
    for file in [NEW_PASSWORD, ""] {
        gateway.run.write("vcenter-a.password", file);
        let refused = gateway.authority.check(&token).await;
        refused.assert_refused(503, "vcenter_unavailable");
        assert!(refused.body.to_string().contains("cannot log in to vCenter"), "{}", refused.body);
    }
    assert!(gateway.authority.log().contains("vcenter-a.password is empty"));
    gateway.run.write("vcenter-a.password", PASSWORD);
    gateway.envoy.open(&token).await;
    assert_echoes(&mut open, "the first console").await;
    assert!(!gateway.authority.log().contains(NEW_PASSWORD));
}

#[tokio::test]
async fn the_api_token_of_a_caller_changes() {
    let gateway = Gateway::start("rotated-token").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    let mut open = gateway.envoy.open(&token).await;
    let vm = gateway.machine_at((ESXI_HOSTS[0], 5999).into());

    let (new, sha256) = new_api_token("portal");
    let old = format!("sha256 = {API_TOKEN_SHA256:?}");
    let both = format!("sha256 = [{API_TOKEN_SHA256:?}, {sha256:?}]");
    let config = gateway.authority.config().clone().with(&old, &both);
    let status = async |caller: Option<&String>| {
        let api = gateway.api();
        let api = caller.map_or(api.clone(), |token| api.with_token(token.clone()));
        api.request_console(&vm.instance_uuid).await.status().as_u16()
    };
    assert_eq!((status(None).await, status(Some(&new)).await), (200, 401));
    assert!(gateway.authority.reload(&config).await);
    assert_eq!((status(None).await, status(Some(&new)).await), (200, 200));
    let config = config.with(&both, &format!("sha256 = {sha256:?}"));
    assert!(gateway.authority.reload(&config).await);
    assert_eq!((status(None).await, status(Some(&new)).await), (401, 200));

    gateway.envoy.open(&token).await;
    assert_echoes(&mut open, "the first console").await;
}

#[tokio::test]
async fn the_certificate_of_vcenter_changes_under_its_pin() {
    let gateway = Gateway::start("rotated-pin").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    let mut open = gateway.envoy.open(&token).await;

    let next = gateway.ca.issue("vcsim-next");
    let old = thumbprint(&fs::read_to_string(gateway.run.path("vcsim.crt")).expect("its PEM"));
    let new = thumbprint(&next.pem());
    let pinned = |pins: &str| {
        let line = format!("certificate_sha256 = {pins}");
        gateway.authority.config().clone().with("ca_file = \"ca.pem\"", &line)
    };
    assert!(gateway.authority.reload(&pinned(&format!("{old:?}"))).await);
    gateway.envoy.open(&token).await;
    assert!(gateway.authority.reload(&pinned(&format!("[{old:?}, {new:?}]"))).await);
    gateway.envoy.open(&token).await;
    gateway.vcenter.set_certificate(&next).await;
    // The connections of before are gone with the configuration of before.
    assert!(gateway.authority.reload(&pinned(&format!("{new:?}"))).await);
    gateway.envoy.open(&token).await;
    assert!(gateway.authority.reload(&pinned(&format!("{old:?}"))).await);
    gateway.authority.check(&token).await.assert_refused(503, "vcenter_unavailable");
    let told = format!("has the SHA-256 thumbprint {new}, which is not pinned");
    assert!(gateway.authority.log().contains(&told), "{}", gateway.authority.log());
    assert_echoes(&mut open, "the first console").await;
}

#[tokio::test]
async fn the_certificate_authority_of_vcenter_changes() {
    let gateway = Gateway::start("rotated-ca").await;
    let screen = TcpServer::echo(ESXI_HOSTS[0]).await;
    let token = gateway.token_for(screen.address()).await;
    let mut open = gateway.envoy.open(&token).await;
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("one");

    // The file is read again although the configuration is the same.
    gateway.run.write("ca.pem", other.cert.pem());
    assert!(gateway.authority.hang_up().await);
    gateway.authority.check(&token).await.assert_refused(503, "vcenter_unavailable");
    gateway.run.write("ca.pem", format!("{}{}", other.cert.pem(), gateway.ca.pem()));
    assert!(gateway.authority.hang_up().await);
    gateway.envoy.open(&token).await;
    assert_echoes(&mut open, "the first console").await;
    gateway.authority.signal(Signal::SIGTERM);
    assert_echoes(&mut open, "and without the authority").await;
}

fn thumbprint(pem: &str) -> String {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}
