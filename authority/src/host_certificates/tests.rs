use super::*;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::path::Path;

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
        certificates.admit_remote("b", "vcenter-b", &host.reference, pin).await.unwrap();
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

fn pin(number: u32) -> Pin {
    let mut sha256 = [7; 32];
    sha256[..4].copy_from_slice(&number.to_be_bytes());
    Pin::new(sha256)
}

#[tokio::test(start_paused = true)]
async fn a_site_s_hosts_are_bounded_and_displace_nobody_else_s() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esxi-hosts.json");
    let certificates = HostCertificates::create(file.clone()).await.unwrap();
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
    // Each wait for Envoy takes a fifth of a second, and one more is allowed in a second.
    assert!((256..700).contains(&admitted), "{admitted}");
    let accepted_now = accepted(&file);
    assert_eq!(accepted_now.len(), HOSTS_PER_SITE.get() + 2);
    assert!(accepted_now.contains(&certificate(&own).pin()));
    assert!(accepted_now.contains(&neighbour_pin), "another site is not slowed down");
    certificates.admit_remote("c", "vcenter-c", &own.reference, pin(1)).await.unwrap();

    // A host that is known already costs nothing.
    let last = (0..2_000).rev().find(|number| accepted_now.contains(&pin(*number))).unwrap();
    for _ in 0..1_000 {
        admit(last).await.unwrap();
    }
    tokio::time::advance(REMOTE_CHANGE_INTERVAL * 2).await;
    admit(5_000).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_changed_or_removed_is_written_again_before_a_console_opens() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esxi-hosts.json");
    let certificates = HostCertificates::create(file.clone()).await.unwrap();
    let own = host(1);
    certificates.set("vcenter-a", std::slice::from_ref(&own)).await.unwrap();
    let good = std::fs::read_to_string(&file).unwrap();
    let foreign = secret(&BTreeSet::from([pin(9)]));
    let same_length = good.replace('a', "b");
    let elsewhere = folder.path().join("elsewhere");
    let damages: [&dyn Fn(); 8] = [
        &|| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap(),
        // The same size and time, as `touch -r` leaves them.
        &|| {
            let time = std::fs::metadata(&file).unwrap().modified().unwrap();
            std::fs::write(&file, &same_length).unwrap();
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        },
        &|| std::fs::write(&file, "").unwrap(),
        &|| std::fs::write(&file, &foreign).unwrap(),
        &|| std::fs::write(&file, &same_length).unwrap(),
        &|| std::fs::remove_file(&file).unwrap(),
        &|| {
            std::fs::write(&elsewhere, &foreign).unwrap();
            std::fs::rename(&elsewhere, &file).unwrap();
        },
        &|| {
            std::fs::write(&elsewhere, &foreign).unwrap();
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        },
    ];
    // Kernels before 6.13 tell times of files apart that are a tick apart, up to 10 ms.
    let damage_later = |damage: &dyn Fn()| {
        std::thread::sleep(Duration::from_millis(20));
        damage();
    };
    for damage in damages {
        damage_later(damage);
        let started = Instant::now();
        certificates.admit("vcenter-a", &own.reference, certificate(&own).pin()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), good);
        assert!(started.elapsed() >= RELOAD, "Envoy needs a moment");
        damage_later(damage);
        certificates.repair().await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), good);
    }
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), foreign, "a link is not followed");

    // What cannot be repaired opens no console.
    std::fs::remove_dir_all(folder.path()).unwrap();
    let admitted = certificates.admit("vcenter-a", &own.reference, certificate(&own).pin()).await;
    assert!(admitted.is_err());
}

#[tokio::test(start_paused = true)]
async fn two_authorities_do_not_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("esxi-hosts.json");
    let first = HostCertificates::create(file.clone()).await.unwrap();
    let error = HostCertificates::create(file.clone()).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("another authority writes it"), "{error}");

    // A successor waits for one that drains.
    let drained = async {
        sleep_until(Instant::now() + Duration::from_secs(8)).await;
        drop(first);
    };
    let (created, ()) = tokio::join!(HostCertificates::create(file), drained);
    created.unwrap();
}

#[tokio::test]
async fn links_that_wait_in_the_folder_are_not_followed() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (file, victim) = (folder.path().join("esxi-hosts.json"), folder.path().join("victim"));
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, &file).unwrap();
    symlink(&victim, file.with_extension("new")).unwrap();
    let certificates = HostCertificates::create(file.clone()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(accepted(&file), []);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o444, 0o444, "Envoy's user reads it");
    drop(certificates);

    let lock = file.with_extension("json.lock");
    std::fs::remove_file(&lock).unwrap();
    symlink(&victim, &lock).unwrap();
    let error = HostCertificates::create(file).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("esxi-hosts.json.lock: "), "{error}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}
