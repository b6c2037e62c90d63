use super::*;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

fn host(number: u32) -> Host {
    let params = CertificateParams::new([format!("esx-{number}")]).unwrap();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    Host {
        reference: HostRef::from(format!("host-{number}")),
        name: format!("esx-{number}"),
        version: None,
        certificate: Some(certificate.pem()),
        addresses: Vec::new(),
    }
}

fn certificate(host: &Host) -> HostCertificate {
    HostCertificate::of(host, SystemTime::now()).unwrap()
}

/// What Envoy would accept, by the file.
fn accepted(file: &Path) -> Vec<Pin> {
    let secret: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let pins = &secret["resources"][0]["validation_context"]["verify_certificate_hash"];
    let pins: Vec<Pin> = serde_json::from_value(pins.clone()).unwrap();
    let (none, mut pins): (Vec<_>, Vec<_>) = pins.into_iter().partition(|&pin| pin == Pin::NONE);
    assert_eq!(none.len(), 1, "an empty list would accept every host");
    pins.sort();
    pins
}

fn pins<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Vec<Pin> {
    let mut pins: Vec<Pin> = hosts.into_iter().map(|host| certificate(host).pin()).collect();
    pins.sort();
    pins
}

#[tokio::test]
async fn the_file_has_the_hosts_that_the_vcenters_have() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esxi-hosts.json");
    let certificates = HostCertificates::create(file.clone()).await.unwrap();
    assert_eq!(accepted(&file), []);

    let (a, b, c) = (host(1), host(2), host(3));
    certificates.set("vcenter-a", &[a.clone(), b.clone()]).await.unwrap();
    certificates.set("vcenter-b", std::slice::from_ref(&c)).await.unwrap();
    assert_eq!(accepted(&file), pins([&a, &b, &c]));

    certificates.set("vcenter-a", std::slice::from_ref(&b)).await.unwrap();
    assert_eq!(accepted(&file), pins([&b, &c]), "a host that is gone is not accepted");

    let without = Host { certificate: None, ..b };
    certificates.set("vcenter-a", &[without]).await.unwrap();
    assert_eq!(accepted(&file), pins([&c]), "nor one without a certificate");
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_admitted_at_once_and_replaces_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esxi-hosts.json");
    let certificates = HostCertificates::create(file.clone()).await.unwrap();
    let (before, after) = (host(1), host(1));
    certificates.set("vcenter-a", std::slice::from_ref(&before)).await.unwrap();

    let started = Instant::now();
    certificates.admit("vcenter-a", &after.reference, certificate(&after).pin()).await.unwrap();
    assert_eq!(accepted(&file), pins([&after]));
    assert!(started.elapsed() >= RELOAD, "Envoy needs a moment");

    let started = Instant::now();
    certificates.admit("vcenter-a", &after.reference, certificate(&after).pin()).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "it has them already");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none/esxi-hosts.json");
    assert!(HostCertificates::create(file).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_host_of_another_site_is_accepted_while_consoles_are_opened_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esxi-hosts.json");
    let certificates = HostCertificates::create(file.clone()).await.unwrap();
    let (own, used, unused) = (host(1), host(2), host(3));
    certificates.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
    let admit = async |host: &Host| {
        let pin = certificate(host).pin();
        certificates.admit_remote("vcenter-b", &host.reference, pin).await.unwrap();
    };
    admit(&used).await;
    admit(&unused).await;
    assert_eq!(accepted(&file), pins([&own, &used, &unused]));

    tokio::time::advance(REMOTE_HOST_LIFETIME / 2).await;
    admit(&used).await;
    certificates.forget_unused().await.unwrap();
    assert_eq!(accepted(&file), pins([&own, &used, &unused]));
    tokio::time::advance(REMOTE_HOST_LIFETIME / 2).await;
    certificates.forget_unused().await.unwrap();
    assert_eq!(accepted(&file), pins([&own, &used]));
}
