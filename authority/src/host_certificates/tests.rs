use super::pins::REMOTE_HOST_LIFETIME;
use super::*;
use crate::tokens::MemoryStore;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::num::NonZeroUsize;
use tokio::time::advance;

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(NonZeroUsize::MIN))
}

fn new() -> HostCertificates {
    replica(&store())
}

fn replica(store: &Arc<MemoryStore>) -> HostCertificates {
    let store = Arc::<MemoryStore>::clone(store);
    HostCertificates::new(store, ["vcenter-a", "vcenter-b"], Arc::new(Metrics::new()))
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
    certificates.newer_than("none", &CancellationToken::new()).await.unwrap()
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
    certificates.set("vcenter-a", &[a.clone(), b.clone()]).await.unwrap();
    certificates.set("vcenter-b", std::slice::from_ref(&c)).await.unwrap();
    assert_eq!(accepted(&certificates).await, pins([&a, &b, &c]));

    certificates.set("vcenter-a", std::slice::from_ref(&b)).await.unwrap();
    assert_eq!(accepted(&certificates).await, pins([&b, &c]), "a host that is gone");

    let without = Host { certificate: None, ..b };
    certificates.set("vcenter-a", &[without]).await.unwrap();
    assert_eq!(accepted(&certificates).await, pins([&c]), "nor one without a certificate");
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_admitted_at_once_and_replaces_the_old_one() {
    let certificates = new();
    let (before, after) = (host(1), host(1));
    certificates.set("vcenter-a", std::slice::from_ref(&before)).await.unwrap();
    let other = host(2);
    certificates.set("vcenter-b", std::slice::from_ref(&other)).await.unwrap();
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
        certificates.set("vcenter-a", std::slice::from_ref(&host)).await.unwrap();
    };
    let (newer, ()) = tokio::join!(held, change);
    assert_eq!(started.elapsed(), Duration::from_secs(7));
    let newer = newer.unwrap();
    assert_ne!(newer.version, known.version);

    // The same list again is no change.
    let started = Instant::now();
    let held = certificates.newer_than(&newer.version, &go_on);
    let same = certificates.set("vcenter-a", std::slice::from_ref(&host));
    let (unchanged, same) = tokio::join!(held, same);
    same.unwrap();
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

/// Looks at the store as often as `serve` does.
async fn look_on(replica: &HostCertificates) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        replica.look().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_admits_an_envoy_gets_from_another() {
    let store = store();
    let (one, other) = (replica(&store), replica(&store));
    let (first, second, go_on) = (host(1), host(2), CancellationToken::new());
    let known = secret(&other).await;
    let held = async { other.newer_than(&known.version, &go_on).await.unwrap() };
    let admitted = async {
        let started = Instant::now();
        let pin = certificate(&first).pin();
        one.admit("vcenter-a", &first.reference, pin).await.unwrap();
        assert!(started.elapsed() >= SETTLE);
    };
    let both = async { tokio::join!(held, admitted).0 };
    let newer = tokio::select! {
        newer = both => newer,
        () = look_on(&other) => unreachable!("it goes on"),
    };
    assert_eq!(newer.version, secret(&one).await.version, "the same for both");
    assert_eq!(accepted(&other).await, pins([&first]));

    // An Envoy that has this replica's newer list already does not go back to the other's older one, which has not looked.
    one.set("vcenter-b", std::slice::from_ref(&second)).await.unwrap();
    let newest = secret(&one).await;
    let started = Instant::now();
    assert!(other.newer_than(&newest.version, &go_on).await.is_none());
    assert_eq!(started.elapsed(), HOLD);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_change_the_list_at_once_lose_nothing() {
    let store = store();
    let replicas: Vec<HostCertificates> = (0..4).map(|_| replica(&store)).collect();
    let changes = (0..40_u32).map(|number| {
        let replica = &replicas[number as usize % replicas.len()];
        let host = HostRef::from(format!("host-{number}"));
        async move { replica.admit("vcenter-a", &host, pin(number)).await.unwrap() }
    });
    join_all(changes).await;
    let all: Vec<Pin> = (0..40).map(pin).collect();
    for replica in &replicas {
        replica.look().await;
        assert_eq!(accepted(replica).await, all);
    }
    // What vCenter does not have any more is gone for all.
    replicas[0].set("vcenter-a", &[]).await.unwrap();
    for replica in &replicas {
        replica.look().await;
        assert_eq!(accepted(replica).await, []);
    }
}

#[tokio::test]
async fn a_list_that_the_store_has_lost_is_written_again() {
    let (one, own) = (new(), host(1));
    one.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
    let emptied = store();
    let one = HostCertificates { store: Arc::<MemoryStore>::clone(&emptied), ..one };
    one.look().await;
    assert_eq!(accepted(&one).await, pins([&own]), "Envoy goes on with it");
    assert_eq!(accepted(&replica(&emptied)).await, pins([&own]));
}

/// Another site may use the same store.
#[tokio::test]
async fn replicas_with_other_vcenters_have_a_list_of_their_own() {
    let store = store();
    let (one, own) = (replica(&store), host(1));
    one.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
    let other = Arc::<MemoryStore>::clone(&store);
    let other = HostCertificates::new(other, ["vcenter-c"], Arc::new(Metrics::new()));
    assert_eq!(accepted(&other).await, []);
    let same = HostCertificates::new(store, ["vcenter-b", "vcenter-a"], Arc::new(Metrics::new()));
    assert_eq!(accepted(&same).await, pins([&own]));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_accepts_nothing_new_and_is_replaced_by_the_next_change() {
    let (store, own) = (store(), host(1));
    let one = replica(&store);
    assert!(store.replace_shared(&one.name, "", "[]]").await.unwrap());
    one.look().await;
    assert_eq!(accepted(&one).await, []);
    one.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
    assert_eq!(accepted(&replica(&store)).await, pins([&own]));
}

#[tokio::test(start_paused = true)]
async fn a_host_of_another_site_is_accepted_while_consoles_are_opened_there() {
    let certificates = new();
    let (own, used, unused) = (host(1), host(2), host(3));
    certificates.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
    let admit = async |host: &Host| {
        let pin = certificate(host).pin();
        certificates.admit_remote("b", "vcenter-b", &host.reference, pin).await.unwrap();
    };
    admit(&used).await;
    admit(&unused).await;
    assert_eq!(accepted(&certificates).await, pins([&own, &used, &unused]));

    certificates.drop_expired(SystemTime::now() + REMOTE_HOST_LIFETIME).await.unwrap();
    assert_eq!(accepted(&certificates).await, pins([&own, &used, &unused]));
    let later = SystemTime::now() + REMOTE_HOST_LIFETIME * 3 / 2;
    let mut state = certificates.state.lock().await;
    let pin = certificate(&used).pin();
    let used_again = certificates.change(&mut state, |pins| {
        pins.admit_remote("b", "vcenter-b", &used.reference, pin, unix_seconds(later));
    });
    used_again.await.unwrap();
    drop(state);
    certificates.drop_expired(SystemTime::now() + REMOTE_HOST_LIFETIME * 2).await.unwrap();
    assert_eq!(accepted(&certificates).await, pins([&own, &used]));
    certificates.drop_expired(later + REMOTE_HOST_LIFETIME * 2).await.unwrap();
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
    certificates.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
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
