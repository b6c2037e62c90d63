//! The password of the token store is changed under a running authority, with and without its file.

use std::net::IpAddr;
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::Vcsim;

const ESXI: IpAddr = ESXI_HOSTS[0];
const PORT: u16 = 5901;

/// Sets another password, and closes the connections of those who came with the old one.
fn change(store: &Store, old: &str, new: &str) {
    store.redis_cli(&["-a", old, "--no-auth-warning", "CONFIG", "SET", "requirepass", new]);
    store.redis_cli(&["-a", new, "--no-auth-warning", "CLIENT", "KILL", "TYPE", "normal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_of_redis_needs_no_restart() {
    let run = Run::new("redis-password");
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    vcenter.add_host(ESXI);
    let vm = vcenter.create_vm("web-1", ESXI, PORT);
    let store = Store::redis(&run).await;
    store.redis_cli(&["CONFIG", "SET", "requirepass", "one-word"]);
    let file = "redis.password";
    run.write(file, "one-word\n");
    let config = Config::new(&run, &vcenter, NO_GATEWAY)
        .with_store_at("redis", &store.url())
        .with(&format!("#password_file = {file:?}"), &format!("password_file = {file:?}"));
    let authority = Authority::start(&run, config).await;
    let token = authority.issue(&vm).await;
    authority.check(&token).await.assert_granted(ESXI, PORT);

    // Rotated: the file first, then Redis.
    run.write(file, "two-words\n");
    authority.check(&token).await.assert_granted(ESXI, PORT);
    change(&store, "one-word", "two-words");
    authority.check(&token).await.assert_granted(ESXI, PORT);

    // Changed in Redis alone, and set back.
    change(&store, "two-words", "three-words");
    for _ in 0..3 {
        authority.check(&token).await.assert_refused(503, "authority_unavailable");
    }
    assert_eq!(authority.internal("/readyz").await.status(), 503);
    change(&store, "three-words", "two-words");
    authority.check(&token).await.assert_granted(ESXI, PORT);
    assert_eq!(authority.internal("/readyz").await.status(), 200);
    let log = authority.log();
    for password in ["one-word", "two-words", "three-words"] {
        assert!(!log.contains(password), "{log}");
    }
}
