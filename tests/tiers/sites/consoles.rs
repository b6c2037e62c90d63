//! A browser at one site's gateway, and a machine at the other site.

use crate::fixture::{BERLIN, Pair, Plan, Site, TOKYO};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use vncgate_authority::tokens::BrowserDigest;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::{LIMIT, until, until_some};
use vncgate_test_support::webmks::{self, WITHOUT_VNC};
use vncgate_test_support::workspace::free_address;

/// A gateway of the site's, which accepts the hosts that its authority has written.
async fn envoy(site: &Site) -> Envoy {
    let (authority_public, authority_internal) = site.authority.listeners();
    let listen = free_address();
    let settings = Settings { listen, authority_public, authority_internal, changes: &[] };
    Envoy::start(&site.run, &site.ca, &settings).await
}

/// Calls the console API of a site as an administrator.
async fn call(site: &Site, method: Method, path: &str) -> Answer {
    let request = site.authority.request(method, path);
    let request = request.header("OpenStack-API-Version", "compute 2.31");
    Answer::of(request.send().await.expect("the API answers")).await
}

#[tokio::test]
async fn a_token_of_one_site_opens_its_console_at_the_other_s_gateway() {
    let Pair { berlin, tokyo, .. } = &Pair::start("").await;
    let envoy = envoy(tokyo).await;
    let screen = TcpServer::echo(BERLIN.esxi).await;
    let vm = berlin.vcenter.create_vm("web-1", BERLIN.esxi, screen.address().port());
    let token = berlin.token(&vm).await;

    let status = tokyo.authority.status(&token).await;
    assert_eq!((status.status, &status.body["name"]), (200, &json!("web-1")), "{}", status.body);
    assert_eq!(status.body["power_state"], "poweredOn");

    let mut browser = envoy.open(&token).await;
    assert_echoes(&mut browser, "typed").await;
    // Once it is open, neither authority has a part in it.
    berlin.authority.freeze();
    tokyo.authority.freeze();
    assert_echoes(&mut browser, "again").await;
    berlin.authority.thaw();
    tokyo.authority.thaw();
    browser.close(None).await.expect("close");

    // The session has one name in every log.
    let entry = until_some("the session in the access log", async || {
        let log = envoy.access_log();
        log.into_iter().find(|entry| entry["instance"] == vm.instance_uuid.as_str())
    })
    .await;
    let session = entry["session"].as_str().expect("a session");
    for site in [berlin, tokyo] {
        assert!(site.authority.log().contains(session), "{}", site.authority.log());
        assert!(!site.authority.log().contains(&token), "a token in a log");
        let metrics = site.authority.metrics().await;
        assert!(!metrics.contains(&token), "a token in the metrics");
    }
    assert!(!envoy.log().contains(&token), "a token in Envoy's log");
    // No site is asked about a token that is in no store.
    let unknown = "00000000-0000-4000-8000-000000000000";
    tokyo.authority.check(unknown).await.assert_refused(403, "token_invalid");
    for (site, metric) in [
        (tokyo, r#"vncgate_site_calls_total{site="berlin",question="console",outcome="ok"}"#),
        (tokyo, r#"vncgate_site_calls_total{site="berlin",question="status",outcome="ok"}"#),
        (berlin, r#"vncgate_site_answers_total{site="tokyo",question="console",outcome="ok"}"#),
        (berlin, r#"vncgate_site_answers_total{site="tokyo",question="status",outcome="ok"}"#),
    ] {
        assert_eq!(site.authority.count(metric).await, 1, "{metric}");
    }
}

#[tokio::test]
async fn either_site_knows_the_other_s_tokens() {
    let Pair { berlin, tokyo, .. } = Pair::shared().await;
    for (owner, asker) in [(berlin, tokyo), (tokyo, berlin)] {
        let (vm, port, token) = owner.machine_and_token().await;
        for authority in [&asker.authority, &owner.authority, &asker.authority] {
            authority.check(&token).await.assert_granted(owner.location.esxi, port);
            assert_eq!(authority.status(&token).await.body["name"], vm.name.as_str());
        }
    }
}

/// The first browser has the token at every site, through restarts of both authorities, and no other has it anywhere.
async fn a_link_is_one_browser_s_at_every_site(store: Store) {
    let proof = |kind: &str, text: &str| Some(json!({kind: text}));
    let digest = |secret: &str| proof("digest", &BrowserDigest::of(secret).to_string());
    let secret = |secret: &str| proof("secret", secret);
    let mut pair = Pair::on(store, "token_use = \"same-browser\"").await;
    let (_, port, token) = pair.berlin.machine_and_token().await;
    let names: Vec<String> = (0..30).map(|number| format!("browser {number}")).collect();
    let firsts = names.iter().enumerate().map(|(number, name)| {
        let site = if number % 2 == 0 { &pair.berlin } else { &pair.tokyo };
        site.authority.check_of(&token, digest(name))
    });
    let answers = join_all(firsts).await;
    let winners: Vec<_> =
        names.iter().zip(&answers).filter(|(_, answer)| answer.status == 200).collect();
    let [(winner, granted)] = winners[..] else { panic!("{winners:?}") };
    granted.assert_granted(BERLIN.esxi, port);
    answers
        .iter()
        .filter(|answer| answer.status != 200)
        .for_each(|answer| answer.assert_refused(403, "link_in_use"));

    for site in [&mut pair.berlin, &mut pair.tokyo] {
        site.authority.kill();
        site.authority.start_again().await;
    }
    for site in [&pair.berlin, &pair.tokyo] {
        let check = async |proof| site.authority.check_of(&token, proof).await;
        check(secret(winner)).await.assert_granted(BERLIN.esxi, port);
        check(digest(winner)).await.assert_refused(403, "link_in_use");
        check(secret("thief")).await.assert_refused(403, "link_in_use");
        check(None).await.assert_refused(403, "permission_denied");
        site.authority.status(&token).await.assert_refused(403, "link_in_use");
    }
}

#[tokio::test]
async fn a_link_is_one_browser_s_at_every_site_with_redis() {
    a_link_is_one_browser_s_at_every_site(Store::redis(&Run::new("sites-browser")).await).await;
}

#[tokio::test]
async fn a_link_is_one_browser_s_at_every_site_with_memcached() {
    let store = Store::memcached(&Run::new("sites-browser-memcached")).await;
    a_link_is_one_browser_s_at_every_site(store).await;
}

#[tokio::test]
async fn sites_may_share_a_memcached_too() {
    let store = Store::memcached(&Run::new("sites-memcached")).await;
    let pair = Pair::on(store, "").await;
    let (_, port, token) = pair.berlin.machine_and_token().await;
    pair.tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
}

#[tokio::test]
async fn what_the_other_site_refuses_is_refused_with_its_reason() {
    let Pair { berlin, tokyo, .. } = Pair::shared().await;
    for (change, code, reason) in [
        ("off", "console_unavailable", "Power it on"),
        ("moved", "console_moved", "has moved"),
        ("gone", "console_unavailable", "no longer exists"),
    ] {
        let (vm, port, token) = berlin.machine_and_token().await;
        match change {
            "off" => berlin.vcenter.power_off(&vm.name),
            "moved" => berlin.vcenter.set_console_port(&vm.name, port + 10_000),
            _ => {
                berlin.vcenter.power_off(&vm.name);
                berlin.vcenter.unregister(&vm.name);
            }
        }
        let (here, there) = (&tokyo.authority, &berlin.authority);
        let checks = (here.check(&token).await, there.check(&token).await);
        let statuses = (here.status(&token).await, there.status(&token).await);
        for (answer, of_its_own_site) in [checks, statuses] {
            answer.assert_refused(409, code);
            let message = answer.body["message"].as_str().expect("a message");
            assert!(message.contains(reason), "{change}: {message}");
            // In the very words that the site itself has for it.
            assert_eq!(answer, of_its_own_site, "{change}");
        }
    }
}

#[tokio::test]
async fn a_single_use_token_opens_one_console_at_whichever_site() {
    let Pair { berlin, tokyo, .. } = &Pair::start("single_use = true").await;
    let (vm, port) = berlin.machine();
    for _ in 0..5 {
        let token = berlin.token(&vm).await;
        let checks = (0..16).map(|number| match number % 2 {
            0 => berlin.authority.check(&token),
            _ => tokyo.authority.check(&token),
        });
        let answers = join_all(checks).await;
        let (granted, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 200);
        assert_eq!(granted.len(), 1, "{answers:?}");
        granted[0].assert_granted(BERLIN.esxi, port);
        refused.iter().for_each(|answer| answer.assert_refused(403, "token_invalid"));
    }
    // A refusal uses nothing up, and neither does a question.
    let token = berlin.token(&vm).await;
    berlin.vcenter.power_off(&vm.name);
    tokyo.authority.check(&token).await.assert_refused(409, "console_unavailable");
    berlin.vcenter.power_on(&vm.name);
    assert_eq!(tokyo.authority.status(&token).await.status, 200);
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    berlin.authority.check(&token).await.assert_refused(403, "token_invalid");
}

#[tokio::test]
async fn tokens_are_shown_listed_and_revoked_at_either_site() {
    let Pair { berlin, tokyo, .. } = Pair::shared().await;
    let (vm, port, token) = berlin.machine_and_token().await;
    let shown = call(tokyo, Method::GET, &format!("/v2.1/os-console-auth-tokens/{token}")).await;
    let expected = json!({"console": {
        "instance_uuid": vm.instance_uuid,
        "host": BERLIN.esxi.to_string(),
        "port": port,
        "internal_access_path": null,
    }});
    assert_eq!((shown.status, &shown.body), (200, &expected));

    let listed =
        call(tokyo, Method::GET, &format!("/v1/instances/{}/tokens", vm.instance_uuid)).await;
    let [one] = &listed.body["tokens"].as_array().expect("tokens")[..] else {
        panic!("{}", listed.body)
    };
    assert_eq!(one["service_host"], BERLIN.service_host);
    let id = one["id"].as_str().expect("an id");
    let revoked = call(tokyo, Method::DELETE, &format!("/v1/tokens/{id}")).await;
    assert_eq!((revoked.status, &revoked.body), (204, &Value::String(String::new())));
    for site in [berlin, tokyo] {
        site.authority.check(&token).await.assert_refused(403, "token_invalid");
    }
    let shown = call(tokyo, Method::GET, &format!("/v2.1/os-console-auth-tokens/{token}")).await;
    assert_eq!(shown.nova_error(404, "itemNotFound"), "Token not found");
}

/// The hosts that Envoy accepts are those of its own site, and of the other one's those with consoles here.
#[tokio::test]
async fn a_webmks_console_of_one_site_opens_at_the_other_s_gateway() {
    let run = Run::new(BERLIN.name);
    let ca = Ca::new(&run);
    let (vcenter, esxi) = webmks::start(&run, &ca).await;
    let host = esxi.add_host(&vcenter, BERLIN.esxi, WITHOUT_VNC).await;
    let berlin = Plan::over(&BERLIN, run, ca, vcenter);
    let tokyo = Plan::new(&TOKYO).await;
    let (sites, store) =
        (Ca::new(&Run::new("sites")), Store::redis(&Run::new("sites-redis")).await);
    let (berlin_s, tokyo_s) = (berlin.other(), tokyo.other());
    let berlin = berlin.start(&sites, &store, "", &tokyo_s).await;
    let tokyo = tokyo.start(&sites, &store, "", &berlin_s).await;
    let envoy = envoy(&tokyo).await;

    let screen = TcpServer::echo(BERLIN.esxi).await;
    let name = BERLIN.esxi.to_string();
    let vm = esxi.create_vm(&berlin.vcenter, "web-1", &name, screen.address()).await;
    let token = berlin.token(&vm).await;
    assert_eq!(tokyo.authority.status(&token).await.body["protocol"], "webmks");
    assert_eq!(esxi.host(&name).await.tickets, 0, "a question costs no ticket");
    for _ in 0..2 {
        let mut browser = envoy.open(&token).await;
        assert_echoes(&mut browser, "typed").await;
    }
    let state = esxi.host(&name).await;
    assert_eq!((state.tickets, state.upgrades.len()), (2, 2));
    assert_eq!(state.upgrades[0].header("host"), [host.to_string()]);

    // The page that asks why is told what the site said to the gateway.
    berlin.vcenter.deny(&vm.name);
    tokyo.authority.check(&token).await.assert_refused(403, "permission_denied");
    tokyo.authority.status(&token).await.assert_refused(403, "permission_denied");
}

/// A console is asked for where the machine is: callers know their sites, as nova's know their regions.
#[tokio::test]
async fn a_site_issues_no_tokens_for_another_s_machines() {
    let Pair { berlin, tokyo, .. } = Pair::shared().await;
    let (vm, _) = berlin.machine();
    let answer = tokyo.authority.api().request_console(&vm.instance_uuid).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

/// A store's clock decides, and no site's: what a record says of its end is for people.
#[tokio::test]
async fn a_site_whose_clock_is_wrong_issues_tokens_that_are_good_for_their_time() {
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::time::SystemTime;
    use vncgate_authority::telemetry::Metrics;
    use vncgate_authority::tokens::{RedisServer, RedisStore, TokenHash, TokenLimits, TokenStore};

    let Pair { berlin, tokyo, store, .. } = Pair::shared().await;
    let (vm, port, token) = berlin.machine_and_token().await;
    let token_hash = TokenHash::of(&token);
    let server = RedisServer::open(store.address());
    let records = RedisStore::new(server, LIMIT, Arc::new(Metrics::new()));
    let record = records.get(token_hash).await.expect("an answer").expect("a record");
    let record = Arc::unwrap_or_clone(record);

    let limits = TokenLimits { per_caller: NonZeroUsize::MAX, per_project: NonZeroUsize::MAX };
    // As an authority writes it whose clock is an hour slow, and then one whose clock is an hour fast.
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let (slow, fast) = (SystemTime::now() - HOUR, SystemTime::now() + HOUR);
    let mut skewed = record.clone();
    (skewed.issued_at, skewed.expires_at) = (slow, slow + Duration::from_secs(600));
    records.put(token_hash, skewed, Duration::from_secs(600), limits).await.expect("kept");
    for site in [berlin, tokyo] {
        site.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
        assert_eq!(site.authority.status(&token).await.body["name"], vm.name.as_str());
    }
    let mut skewed = record;
    (skewed.issued_at, skewed.expires_at) = (fast, fast + Duration::from_secs(600));
    records.put(token_hash, skewed, Duration::from_millis(1), limits).await.expect("kept");
    until("the token's end", async || tokyo.authority.check(&token).await.status == 403).await;
    berlin.authority.check(&token).await.assert_refused(403, "token_invalid");
}
