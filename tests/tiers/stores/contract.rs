//! What every token store does. Each test runs on each store, seen by two replicas.

use crate::fixture::{LIMITS, Replicas, TTL, knows, listed, over, put, record, token};
use futures_util::future::join_all;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::sleep;
use uuid::Uuid;
use vncgate_api::Access;
use vncgate_authority::tokens::{
    Binding, BrowserDigest, Limit, LimitReached, PutError, Record, SharedText, TOKENS_PER_INSTANCE,
    TokenLimits, TokenStore,
};
use vncgate_authority::vcenter::scope::{Container, ContainerKind, Locator};

macro_rules! on_every_store {
    ($($test:ident)*) => {
        on_every_store!(@memory on_memory $($test)*);
        on_every_store!(@memcached on_memcached $($test)*);
        on_every_store!(@redis on_redis $($test)*);
        on_every_store!(@sentinel on_sentinel $($test)*);
        on_every_store!(@cluster on_cluster $($test)*);
    };
    (@$store:ident $replicas:ident $($test:ident)*) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::fixture::Replicas::$replicas().await).await;
                }
            )*
        }
    };
}

on_every_store! {
    what_one_replica_puts_the_other_gets
    a_token_lives_for_its_time_by_the_store_s_clock
    a_token_that_was_taken_is_gone_for_all
    a_token_is_good_for_its_machine_until_it_ends
    of_many_who_take_a_token_one_gets_it
    of_many_browsers_one_gets_the_token_and_keeps_it
    a_bound_token_outlives_its_own_time_and_no_revocation
    a_machine_s_tokens_are_listed_oldest_first
    revoking_a_machine_s_tokens_leaves_none_of_them
    no_token_is_lost_when_many_are_issued_at_once
    no_token_issued_before_a_revocation_survives_it
    one_machine_s_tokens_push_out_nobody_else_s
    a_machine_s_list_lives_as_long_as_its_last_token
    one_tenant_s_tokens_push_out_no_other_tenant_s
    one_caller_s_tokens_for_a_machine_push_out_no_other_caller_s
    a_shared_text_is_replaced_by_one_who_knows_it
    of_many_who_replace_a_shared_text_one_does
    it_answers
}

async fn what_one_replica_puts_the_other_gets(Replicas { one, other }: Replicas) {
    let record = Record {
        host: "esx-\"ü\"\r\n.example.com".to_owned(),
        containers: Some(vec![Container {
            service_host: "vcenter-a".to_owned(),
            kind: ContainerKind::Folder,
            locator: Locator::Path("DC0/vm/tenant%2fa".to_owned()),
        }]),
        expires_at: SystemTime::UNIX_EPOCH + TTL,
        ..record(Uuid::new_v4())
    };
    let (issued, unknown) = (token(), token());
    one.put(issued, record.clone(), TTL, LIMITS).await.unwrap();
    assert_eq!(other.get(issued).await.unwrap(), Some(record.clone().into()));
    assert_eq!(one.get(issued).await.unwrap(), Some(record.into()), "looking does not use it up");
    assert_eq!(other.get(unknown).await.unwrap(), None);
    assert_eq!(other.take(unknown).await.unwrap(), None);
}

async fn a_token_lives_for_its_time_by_the_store_s_clock(Replicas { one, other }: Replicas) {
    const SHORT: Duration = Duration::from_secs(2);
    let instance = Uuid::new_v4();
    let (short, long) = (token(), token());
    // The records' own dates are wrong by years, as those of a replica whose clock is wrong would be.
    let far_future = SystemTime::now() + Duration::from_secs(100_000_000);
    let promising = Record { expires_at: far_future, ..record(instance) };
    one.put(short, promising, SHORT, LIMITS).await.unwrap();
    one.put(long, record(instance), TTL, LIMITS).await.unwrap();
    assert!(knows(&*other, short).await);
    sleep(SHORT).await;
    over(&*other, &[short]).await;
    over(&*one, &[short]).await;
    assert!(!other.is_good(short, instance).await.unwrap());
    assert_eq!(other.take(short).await.unwrap(), None);
    assert!(knows(&*other, long).await, "although its record says that it is over");
    assert_eq!(listed(&*other, instance).await, [long]);
    assert_eq!(other.revoke(instance).await.unwrap().len(), 1, "the expired one is not counted");
}

async fn a_token_that_was_taken_is_gone_for_all(Replicas { one, other }: Replicas) {
    let instance = Uuid::new_v4();
    let (taken, left) = (put(&*one, instance).await, put(&*one, instance).await);
    assert_eq!(other.take(taken).await.unwrap(), Some(record(instance).into()));
    assert_eq!(one.take(taken).await.unwrap(), None);
    assert!(!knows(&*one, taken).await && !knows(&*other, taken).await);
    assert_eq!(listed(&*one, instance).await, [left]);
}

async fn a_token_is_good_for_its_machine_until_it_ends(Replicas { one, other }: Replicas) {
    let instance = Uuid::new_v4();
    let (taken, revoked) = (put(&*one, instance).await, put(&*one, instance).await);
    let good = async |token, instance| {
        let answers = [one.is_good(token, instance).await, other.is_good(token, instance).await];
        let [one, other] = answers.map(Result::unwrap);
        assert_eq!(one, other);
        one
    };
    assert!(good(taken, instance).await && good(revoked, instance).await);
    assert!(!good(token(), instance).await && !good(taken, Uuid::new_v4()).await);
    other.take(taken).await.unwrap();
    assert!(!good(taken, instance).await && good(revoked, instance).await);
    other.revoke(instance).await.unwrap();
    assert!(!good(revoked, instance).await);
}

async fn of_many_who_take_a_token_one_gets_it(Replicas { one, other }: Replicas) {
    for _ in 0..5 {
        let token = put(&*one, Uuid::new_v4()).await;
        let takers = (0..20).map(|number| {
            let store = Arc::clone(if number % 2 == 0 { &one } else { &other });
            tokio::spawn(async move { store.take(token).await.unwrap().is_some() })
        });
        let taken = join_all(takers).await.into_iter().filter(|got| *got.as_ref().unwrap());
        assert_eq!(taken.count(), 1);
    }
}

async fn of_many_browsers_one_gets_the_token_and_keeps_it(Replicas { one, other }: Replicas) {
    let instance = Uuid::new_v4();
    let containers = Some(Vec::new());
    let record = Record { containers, access: Access::View, ..record(instance) };
    let token = token();
    one.put(token, record.clone(), TTL, LIMITS).await.unwrap();
    let browsers = (0..30).map(|number| {
        let store = Arc::clone(if number % 2 == 0 { &one } else { &other });
        let browser = BrowserDigest::of(&number.to_string());
        tokio::spawn(async move { (browser, store.bind(token, browser, TTL).await.unwrap()) })
    });
    let mut winners = Vec::new();
    for browser in join_all(browsers).await {
        match browser.unwrap() {
            (browser, Binding::Bound) => winners.push(browser),
            (_, bound) => assert_eq!(bound, Binding::Elsewhere),
        }
    }
    let [winner] = winners[..] else { panic!("{winners:?}") };
    for store in [&one, &other] {
        let expected = Record { browser: Some(winner), ..record.clone() };
        assert_eq!(store.get(token).await.unwrap(), Some(expected.into()));
        assert_eq!(store.bind(token, winner, TTL).await.unwrap(), Binding::Bound);
        let thief = BrowserDigest::of("thief");
        assert_eq!(store.bind(token, thief, TTL).await.unwrap(), Binding::Elsewhere);
    }
    assert_eq!(listed(&*other, instance).await, [token]);
}

async fn a_bound_token_outlives_its_own_time_and_no_revocation(Replicas { one, other }: Replicas) {
    const SHORT: Duration = Duration::from_secs(2);
    let (instance, browser) = (Uuid::new_v4(), BrowserDigest::of("own"));
    let (bound, unbound, late, revoked) = (token(), token(), token(), token());
    for token in [bound, unbound, late, revoked] {
        one.put(token, record(instance), SHORT, LIMITS).await.unwrap();
    }
    assert_eq!(other.bind(bound, browser, TTL).await.unwrap(), Binding::Bound);
    assert_eq!(other.bind(late, browser, Duration::from_millis(1)).await.unwrap(), Binding::Bound);
    assert!(other.take(revoked).await.unwrap().is_some());
    assert_eq!(one.bind(revoked, browser, TTL).await.unwrap(), Binding::Unknown);
    sleep(SHORT).await;
    for store in [&one, &other] {
        over(&**store, &[unbound, late]).await;
        assert!(knows(&**store, bound).await);
        assert_eq!(store.bind(late, browser, TTL).await.unwrap(), Binding::Unknown);
    }
    assert_eq!(listed(&*one, instance).await, [bound]);
    assert_eq!(other.revoke(instance).await.unwrap().len(), 1);
    assert_eq!(one.bind(bound, browser, TTL).await.unwrap(), Binding::Unknown);
    assert!(!knows(&*one, bound).await && !knows(&*other, bound).await);
}

async fn a_machine_s_tokens_are_listed_oldest_first(Replicas { one, other }: Replicas) {
    let (instance, neighbour) = (Uuid::new_v4(), Uuid::new_v4());
    let first = put(&*one, instance).await;
    let foreign = put(&*other, neighbour).await;
    let second = put(&*other, instance).await;
    let third = put(&*one, instance).await;
    let listed_here = one.list(instance).await.unwrap();
    let expected = [first, second, third].map(|token| (token, record(instance)));
    assert_eq!(listed_here, expected);
    assert_eq!(listed(&*other, neighbour).await, [foreign]);
    assert_eq!(listed(&*other, Uuid::new_v4()).await, []);
}

async fn revoking_a_machine_s_tokens_leaves_none_of_them(Replicas { one, other }: Replicas) {
    let (instance, neighbour) = (Uuid::new_v4(), Uuid::new_v4());
    let revoked = [put(&*one, instance).await, put(&*other, instance).await];
    let foreign = put(&*one, neighbour).await;
    assert_eq!(one.revoke(instance).await.unwrap().len(), 2);
    for token in revoked {
        assert!(!knows(&*other, token).await);
        assert_eq!(other.take(token).await.unwrap(), None);
    }
    assert_eq!(listed(&*other, instance).await, []);
    assert_eq!(one.revoke(instance).await.unwrap().len(), 0);
    assert!(knows(&*one, foreign).await);
    let new = put(&*other, instance).await;
    assert!(knows(&*one, new).await, "a machine may be used again");
}

async fn no_token_is_lost_when_many_are_issued_at_once(Replicas { one, other }: Replicas) {
    let instance = Uuid::new_v4();
    let issues = (0..40).map(|number| {
        let store = Arc::clone(if number % 2 == 0 { &one } else { &other });
        tokio::spawn(async move { put(&*store, instance).await })
    });
    let issued: Vec<_> = join_all(issues).await.into_iter().map(Result::unwrap).collect();
    for token in &issued {
        assert!(knows(&*one, *token).await);
    }
    let listed = listed(&*other, instance).await;
    assert_eq!(listed.len(), issued.len());
    assert!(issued.iter().all(|token| listed.contains(token)));
}

async fn no_token_issued_before_a_revocation_survives_it(Replicas { one, other }: Replicas) {
    let instance = Uuid::new_v4();
    for _ in 0..10 {
        let (one, other) = (Arc::clone(&one), Arc::clone(&other));
        // Whatever these two do to each other's work, what the second revocation finds it ends.
        let issues = tokio::spawn({
            let one = Arc::clone(&one);
            async move { [put(&*one, instance).await, put(&*one, instance).await] }
        });
        other.revoke(instance).await.unwrap();
        let issued = issues.await.unwrap();
        other.revoke(instance).await.unwrap();
        for token in issued {
            assert!(!knows(&*one, token).await && !knows(&*other, token).await);
        }
        assert_eq!(listed(&*one, instance).await, []);
    }
}

async fn one_machine_s_tokens_push_out_nobody_else_s(Replicas { one, other }: Replicas) {
    let (busy, neighbour) = (Uuid::new_v4(), Uuid::new_v4());
    let foreign = put(&*one, neighbour).await;
    let mut tokens = Vec::new();
    for _ in 0..=TOKENS_PER_INSTANCE {
        tokens.push(put(&*one, busy).await);
    }
    assert!(!knows(&*other, tokens[0]).await, "the busy machine's oldest");
    assert_eq!(listed(&*other, busy).await, tokens[1..]);
    assert!(knows(&*other, tokens[1]).await);
    assert!(knows(&*other, foreign).await);
}

async fn a_machine_s_list_lives_as_long_as_its_last_token(Replicas { one, other }: Replicas) {
    const SHORT: Duration = Duration::from_secs(1);
    let instance = Uuid::new_v4();
    let long = put(&*one, instance).await;
    let short = token();
    one.put(short, record(instance), SHORT, LIMITS).await.unwrap();
    sleep(SHORT).await;
    over(&*one, &[short]).await;
    assert!(knows(&*other, long).await, "a later token with a shorter life takes nothing with it");
    assert_eq!(listed(&*other, instance).await, [long]);
}

async fn one_tenant_s_tokens_push_out_no_other_tenant_s(Replicas { one, other }: Replicas) {
    const FEW: TokenLimits = TokenLimits {
        per_caller: NonZeroUsize::new(4).expect("it is not zero"),
        per_project: NonZeroUsize::new(6).expect("it is not zero"),
    };
    // Names of this run alone: the network's stores are shared by all tests.
    let [tenant, mallory, mallet] = [(); 3].map(|()| format!("{} ü\r\n'", Uuid::new_v4()));
    let issue = async |store: &dyn TokenStore, caller: &str, project: &str, ttl| {
        let (token, instance) = (token(), Uuid::new_v4());
        let (caller, project) = (caller.to_owned(), Some(project.to_owned()));
        let record =
            Record { caller, project, expires_at: SystemTime::now() + ttl, ..record(instance) };
        match store.put(token, record, ttl, FEW).await {
            Ok(()) => Ok((token, instance)),
            Err(PutError::LimitReached(LimitReached { limit, retry_after })) => {
                assert!(retry_after <= TTL + Duration::from_secs(10), "{retry_after:?}");
                Err(limit)
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut issued = Vec::new();
    for number in 0..4 {
        let store = if number % 2 == 0 { &one } else { &other };
        issued.push(issue(&**store, &mallory, &tenant, TTL).await.unwrap());
    }
    assert_eq!(issue(&*one, &mallory, &tenant, TTL).await, Err(Limit::Caller));
    let elsewhere = Uuid::new_v4().to_string();
    assert_eq!(issue(&*one, &mallory, &elsewhere, TTL).await, Err(Limit::Caller));
    for _ in 0..2 {
        issued.push(issue(&*other, &mallet, &tenant, TTL).await.unwrap());
    }
    assert_eq!(issue(&*one, &mallet, &tenant, TTL).await, Err(Limit::Project));
    for _ in 0..2 {
        issued.push(issue(&*one, &mallet, &elsewhere, TTL).await.expect("refused is not counted"));
    }
    for (token, _) in &issued {
        assert!(knows(&*one, *token).await && knows(&*other, *token).await);
    }
    // Tokens that were used up or revoked do not count.
    assert!(other.take(issued[0].0).await.unwrap().is_some());
    assert_eq!(other.take(issued[0].0).await.unwrap(), None);
    assert_eq!(one.revoke(issued[1].1).await.unwrap().len(), 1);
    for _ in 0..2 {
        issue(&*one, &mallory, &tenant, Duration::from_secs(2)).await.unwrap();
    }
    assert_eq!(issue(&*other, &mallory, &tenant, TTL).await, Err(Limit::Caller));
    // Nor do expired ones, whose time the counts of memcached round up.
    sleep(Duration::from_secs(12)).await;
    issue(&*other, &mallory, &tenant, TTL).await.unwrap();
}

async fn one_caller_s_tokens_for_a_machine_push_out_no_other_caller_s(
    Replicas { one, other }: Replicas,
) {
    let instance = Uuid::new_v4();
    let issue = async |caller: &str| {
        let issued = token();
        let record = Record { caller: format!("{caller} {instance}"), ..record(instance) };
        one.put(issued, record, TTL, LIMITS).await.unwrap();
        issued
    };
    let alices = issue("alice").await;
    for _ in 0..TOKENS_PER_INSTANCE + 5 {
        issue("mallory").await;
    }
    let bobs = issue("bob").await;
    assert!(knows(&*other, alices).await && knows(&*other, bobs).await);
    assert_eq!(listed(&*other, instance).await.len(), TOKENS_PER_INSTANCE);
}

async fn it_answers(Replicas { one, other }: Replicas) {
    one.ping().await.unwrap();
    other.ping().await.unwrap();
}

async fn a_shared_text_is_replaced_by_one_who_knows_it(Replicas { one, other }: Replicas) {
    let name = Uuid::new_v4().to_string();
    assert_eq!(one.read_shared(&name, "").await.expect("an answer"), SharedText::Absent);
    assert!(!one.replace_shared(&name, "x", "a").await.expect("an answer"), "there is no x");
    let (first, second) = ("{\"ü\": \"\r\n\"}", "b".repeat(500_000));
    assert!(one.replace_shared(&name, "", first).await.expect("an answer"));
    assert!(!other.replace_shared(&name, "", "c").await.expect("an answer"), "there is one");

    let read = other.read_shared(&name, "").await.expect("an answer");
    assert_eq!(read, SharedText::Changed(first.to_owned()));
    let version = SharedText::version(first);
    let read = other.read_shared(&name, &version).await.expect("an answer");
    assert_eq!(read, SharedText::Unchanged);

    assert!(other.replace_shared(&name, &version, &second).await.expect("an answer"));
    assert!(!one.replace_shared(&name, &version, first).await.expect("an answer"), "too late");
    let read = one.read_shared(&name, &version).await.expect("an answer");
    assert_eq!(read, SharedText::Changed(second));
    let other_name = one.read_shared(&format!("{name}x"), "").await.expect("an answer");
    assert_eq!(other_name, SharedText::Absent);
}

async fn of_many_who_replace_a_shared_text_one_does(Replicas { one, other }: Replicas) {
    let name = Uuid::new_v4().to_string();
    let mut known = String::new();
    for round in 0..5 {
        let texts: Vec<String> = (0..20).map(|writer| format!("{round} {writer}")).collect();
        let writes = texts.iter().enumerate().map(|(writer, text)| {
            let store = if writer % 2 == 0 { &one } else { &other };
            store.replace_shared(&name, &known, text)
        });
        let writes = join_all(writes).await;
        let mut winners = Vec::new();
        for (text, replaced) in texts.iter().zip(writes) {
            winners.extend(replaced.expect("an answer").then_some(text));
        }
        let [winner] = winners[..] else { panic!("{winners:?}") };
        let read = one.read_shared(&name, &known).await.expect("an answer");
        assert_eq!(read, SharedText::Changed(winner.clone()));
        known = SharedText::version(winner);
    }
}
