//! What every token store does. Each test runs on each store, seen by two replicas.

use crate::fixture::{Replicas, TTL, knows, listed, put, record, token};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::sleep;
use uuid::Uuid;
use vncgate_authority::tokens::{Record, TOKENS_PER_INSTANCE};

macro_rules! on_every_store {
    ($($test:ident)*) => {
        on_every_store!(@memory on_memory $($test)*);
        on_every_store!(@memcached on_memcached $($test)*);
        on_every_store!(@redis on_redis $($test)*);
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
    of_many_who_take_a_token_one_gets_it
    a_machine_s_tokens_are_listed_oldest_first
    revoking_a_machine_s_tokens_leaves_none_of_them
    no_token_is_lost_when_many_are_issued_at_once
    no_token_issued_before_a_revocation_survives_it
    one_machine_s_tokens_push_out_nobody_else_s
    a_machine_s_list_lives_as_long_as_its_last_token
    it_answers
}

async fn what_one_replica_puts_the_other_gets(Replicas { one, other }: Replicas) {
    let record = Record {
        host: "esx-\"ü\"\r\n.example.com".to_owned(),
        expires_at: SystemTime::UNIX_EPOCH + TTL,
        ..record(Uuid::new_v4())
    };
    let (issued, unknown) = (token(), token());
    one.put(issued, record.clone(), TTL).await.unwrap();
    assert_eq!(other.get(issued).await.unwrap(), Some(record.clone()));
    assert_eq!(one.get(issued).await.unwrap(), Some(record), "looking does not use it up");
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
    one.put(short, promising, SHORT).await.unwrap();
    one.put(long, record(instance), TTL).await.unwrap();
    assert!(knows(&*other, short).await);
    sleep(SHORT + Duration::from_millis(100)).await;
    assert!(!knows(&*other, short).await && !knows(&*one, short).await);
    assert_eq!(other.take(short).await.unwrap(), None);
    assert!(knows(&*other, long).await, "although its record says that it is over");
    assert_eq!(listed(&*other, instance).await, [long]);
    assert_eq!(other.revoke(instance).await.unwrap(), 1, "the expired one is not counted");
}

async fn a_token_that_was_taken_is_gone_for_all(Replicas { one, other }: Replicas) {
    let instance = Uuid::new_v4();
    let (taken, left) = (put(&*one, instance).await, put(&*one, instance).await);
    assert_eq!(other.take(taken).await.unwrap(), Some(record(instance)));
    assert_eq!(one.take(taken).await.unwrap(), None);
    assert!(!knows(&*one, taken).await && !knows(&*other, taken).await);
    assert_eq!(listed(&*one, instance).await, [left]);
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
    assert_eq!(one.revoke(instance).await.unwrap(), 2);
    for token in revoked {
        assert!(!knows(&*other, token).await);
        assert_eq!(other.take(token).await.unwrap(), None);
    }
    assert_eq!(listed(&*other, instance).await, []);
    assert_eq!(one.revoke(instance).await.unwrap(), 0);
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
    one.put(token(), record(instance), SHORT).await.unwrap();
    sleep(SHORT + Duration::from_millis(200)).await;
    assert!(knows(&*other, long).await, "a later token with a shorter life takes nothing with it");
    assert_eq!(listed(&*other, instance).await, [long]);
}

async fn it_answers(Replicas { one, other }: Replicas) {
    one.ping().await.unwrap();
    other.ping().await.unwrap();
}
