use super::pins::REMOTE_HOST_LIFETIME;
use super::*;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tokio::time::advance;

fn new() -> HostCertificates {
    HostCertificates::new(Arc::new(Metrics::new()))
}

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

/// What Envoy is told now, whatever it knows.
async fn secret(certificates: &HostCertificates) -> Arc<Secret> {
    certificates.newer_than("", &CancellationToken::new()).await.unwrap()
}

/// What Envoy would accept.
async fn accepted(certificates: &HostCertificates) -> Vec<Pin> {
    let response: Value = serde_json::from_str(&secret(certificates).await.response).unwrap();
    let pins = &response["resources"][0]["validation_context"]["verify_certificate_hash"];
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
async fn the_list_has_the_hosts_that_the_vcenters_have() {
    let certificates = new();
    assert_eq!(accepted(&certificates).await, []);

    let (a, b, c) = (host(1), host(2), host(3));
    certificates.set("vcenter-a", &[a.clone(), b.clone()]).await;
    certificates.set("vcenter-b", std::slice::from_ref(&c)).await;
    assert_eq!(accepted(&certificates).await, pins([&a, &b, &c]));

    certificates.set("vcenter-a", std::slice::from_ref(&b)).await;
    assert_eq!(accepted(&certificates).await, pins([&b, &c]), "a host that is gone");

    let without = Host { certificate: None, ..b };
    certificates.set("vcenter-a", &[without]).await;
    assert_eq!(accepted(&certificates).await, pins([&c]), "nor one without a certificate");
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_admitted_at_once_and_replaces_the_old_one() {
    let certificates = new();
    let (before, after) = (host(1), host(1));
    certificates.set("vcenter-a", std::slice::from_ref(&before)).await;
    let other = host(2);
    certificates.set("vcenter-b", std::slice::from_ref(&other)).await;
    advance(SETTLE).await;

    let pin = certificate(&after).pin();
    let started = Instant::now();
    let admitted = certificates.admit("vcenter-a", &after.reference, pin);
    let known = certificates.admit("vcenter-b", &other.reference, certificate(&other).pin());
    let known = async {
        known.await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO, "Envoy has it already");
    };
    let (admitted, ()) = tokio::join!(admitted, known);
    admitted.unwrap();
    assert_eq!(accepted(&certificates).await, pins([&after, &other]));
    assert!(started.elapsed() >= SETTLE, "Envoy needs a moment");

    let started = Instant::now();
    certificates.admit("vcenter-a", &after.reference, pin).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "it has them already");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_until_the_list_changes() {
    let certificates = new();
    let (host, go_on) = (host(1), CancellationToken::new());
    let known = secret(&certificates).await;
    let started = Instant::now();
    let held = certificates.newer_than(&known.version, &go_on);
    let change = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        certificates.set("vcenter-a", std::slice::from_ref(&host)).await;
    };
    let (newer, ()) = tokio::join!(held, change);
    assert_eq!(started.elapsed(), Duration::from_secs(7));
    let newer = newer.unwrap();
    assert_ne!(newer.version, known.version);

    // The same list again is no change.
    let started = Instant::now();
    let held = certificates.newer_than(&newer.version, &go_on);
    let same = certificates.set("vcenter-a", std::slice::from_ref(&host));
    let (unchanged, ()) = tokio::join!(held, same);
    assert!(unchanged.is_none());
    assert_eq!(started.elapsed(), HOLD);

    // An authority that ends holds none, and one with too many neither.
    let started = Instant::now();
    go_on.cancel();
    assert!(certificates.newer_than(&newer.version, &go_on).await.is_none());
    let _all = certificates.held.try_acquire_many(HELD as u32).unwrap();
    let go_on = CancellationToken::new();
    assert!(certificates.newer_than(&newer.version, &go_on).await.is_none());
    assert!(certificates.newer_than(&known.version, &go_on).await.is_some());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn two_authorities_with_the_same_hosts_have_the_same_version() {
    let (one, other) = (new(), new());
    let (a, b) = (host(1), host(2));
    one.set("vcenter-a", &[a.clone(), b.clone()]).await;
    other.set("vcenter-b", &[b]).await;
    assert_ne!(secret(&one).await.version, secret(&other).await.version);
    other.set("vcenter-a", &[a]).await;
    assert_eq!(secret(&one).await.version, secret(&other).await.version);
}

#[tokio::test(start_paused = true)]
async fn a_host_of_another_site_is_accepted_while_consoles_are_opened_there() {
    let certificates = new();
    let (own, used, unused) = (host(1), host(2), host(3));
    certificates.set("vcenter-a", std::slice::from_ref(&own)).await;
    let admit = async |host: &Host| {
        let pin = certificate(host).pin();
        certificates.admit_remote("b", "vcenter-b", &host.reference, pin).await.unwrap();
    };
    admit(&used).await;
    admit(&unused).await;
    assert_eq!(accepted(&certificates).await, pins([&own, &used, &unused]));

    certificates.drop_expired(SystemTime::now() + REMOTE_HOST_LIFETIME).await;
    assert_eq!(accepted(&certificates).await, pins([&own, &used, &unused]));
    let later = SystemTime::now() + REMOTE_HOST_LIFETIME * 3 / 2;
    let mut state = certificates.state.lock().await;
    let pin = certificate(&used).pin();
    certificates.change(&mut state, |pins| {
        pins.admit_remote("b", "vcenter-b", &used.reference, pin, unix_seconds(later));
    });
    drop(state);
    certificates.drop_expired(SystemTime::now() + REMOTE_HOST_LIFETIME * 2).await;
    assert_eq!(accepted(&certificates).await, pins([&own, &used]));
    certificates.drop_expired(later + REMOTE_HOST_LIFETIME * 2).await;
    assert_eq!(accepted(&certificates).await, pins([&own]));
}

fn pin(number: u32) -> Pin {
    let mut sha256 = [7; 32];
    sha256[..4].copy_from_slice(&number.to_be_bytes());
    Pin::new(sha256)
}

#[tokio::test(start_paused = true)]
async fn a_site_s_hosts_are_bounded_and_displace_nobody_else_s() {
    let certificates = new();
    let (own, neighbour) = (host(1), host(2));
    certificates.set("vcenter-a", std::slice::from_ref(&own)).await;
    let neighbour_pin = certificate(&neighbour).pin();
    certificates.admit_remote("c", "vcenter-c", &neighbour.reference, neighbour_pin).await.unwrap();
    let admit = async |number: u32| {
        let host = HostRef::from(format!("host-{number}"));
        certificates.admit_remote("b", "vcenter-b", &host, pin(number)).await
    };
    let mut admitted = 0;
    for number in 0..2_000 {
        admitted += u32::from(admit(number).await.is_ok());
    }
    // Each wait for Envoy takes two fifths of a second, and one more is allowed in a second.
    assert!((256..700).contains(&admitted), "{admitted}");
    let accepted_now = accepted(&certificates).await;
    assert_eq!(accepted_now.len(), HOSTS_PER_SITE + 2);
    assert!(accepted_now.contains(&certificate(&own).pin()));
    assert!(accepted_now.contains(&neighbour_pin), "another site is not slowed down");
    certificates.admit_remote("c", "vcenter-c", &own.reference, pin(1)).await.unwrap();

    // A host that is known already costs nothing.
    let last = (0..2_000).rev().find(|number| accepted_now.contains(&pin(*number))).unwrap();
    for _ in 0..1_000 {
        admit(last).await.unwrap();
    }
    advance(REMOTE_CHANGE_INTERVAL * 2).await;
    admit(5_000).await.unwrap();
}
