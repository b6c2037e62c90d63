use super::*;
use crate::console_type::ConsoleType;
use crate::vcenter::reference::HostRef;
use crate::vcenter::reference::MachineRef;
use std::num::NonZeroU16;
use std::time::SystemTime;
use tokio::time::advance;

const TTL: Duration = Duration::from_secs(600);

fn store(capacity: usize) -> MemoryStore {
    MemoryStore::new(NonZeroUsize::new(capacity).unwrap())
}

fn record(instance: u128) -> Record {
    Record {
        instance: Uuid::from_u128(instance),
        console: ConsoleType::Novnc,
        service_host: "vcenter-a".to_owned(),
        vcenter_uuid: None,
        machine: MachineRef::from("vm-1".to_owned()),
        host: "esx-1".to_owned(),
        host_reference: HostRef::from("host-29".to_owned()),
        vnc_port: NonZeroU16::new(5901),
        issued_at: SystemTime::UNIX_EPOCH,
        expires_at: SystemTime::UNIX_EPOCH,
    }
}

fn token(number: usize) -> TokenHash {
    TokenHash::of(&number.to_string())
}

impl MemoryStore {
    async fn knows(&self, number: usize) -> bool {
        self.get(token(number)).await.unwrap().is_some()
    }

    /// Each of the two maps has what the other has.
    fn assert_consistent(&self) {
        let tokens = self.tokens();
        let listed: usize = tokens.by_instance.values().map(Vec::len).sum();
        assert_eq!(listed, tokens.by_hash.len());
        for (instance, own) in &tokens.by_instance {
            assert!(!own.is_empty(), "no empty list is kept");
            for token in own {
                assert_eq!(tokens.by_hash.peek(token).unwrap().record.instance, *instance);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_for_its_time_and_not_longer() {
    let store = store(10);
    store.put(token(1), record(1), TTL).await.unwrap();
    assert_eq!(store.get(token(1)).await.unwrap(), Some(record(1)));
    assert_eq!(store.get(token(2)).await.unwrap(), None);
    advance(TTL - Duration::from_millis(1)).await;
    assert!(store.knows(1).await);
    advance(Duration::from_millis(1)).await;
    assert!(!store.knows(1).await);
    assert_eq!(store.take(token(1)).await.unwrap(), None, "an expired token cannot be taken");
}

#[tokio::test]
async fn a_token_can_be_taken_once() {
    let store = store(10);
    store.put(token(1), record(1), TTL).await.unwrap();
    assert_eq!(store.take(token(1)).await.unwrap(), Some(record(1)));
    assert_eq!(store.take(token(1)).await.unwrap(), None);
    assert!(!store.knows(1).await);
    store.assert_consistent();
}

#[tokio::test]
async fn a_full_store_drops_the_oldest_even_if_it_is_in_use() {
    let store = store(3);
    for number in 1..=3 {
        store.put(token(number), record(number as u128), TTL).await.unwrap();
    }
    assert!(store.knows(1).await);
    store.put(token(4), record(4), TTL).await.unwrap();
    assert!(!store.knows(1).await);
    for number in 2..=4 {
        assert!(store.knows(number).await);
    }
    store.assert_consistent();
}

#[tokio::test]
async fn one_machine_s_tokens_push_out_nobody_else_s() {
    let store = store(10 * TOKENS_PER_INSTANCE);
    store.put(token(0), record(1), TTL).await.unwrap();
    for number in 1..=TOKENS_PER_INSTANCE + 1 {
        store.put(token(number), record(2), TTL).await.unwrap();
    }
    assert!(store.knows(0).await, "another machine's");
    assert!(!store.knows(1).await, "the busy machine's oldest");
    assert!(store.knows(2).await);
    store.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn a_machine_s_expired_tokens_are_dropped_at_its_next_issue() {
    let store = store(10);
    store.put(token(1), record(1), TTL).await.unwrap();
    store.put(token(2), record(1), TTL).await.unwrap();
    advance(TTL).await;
    store.put(token(3), record(1), TTL).await.unwrap();
    assert_eq!(store.tokens().by_hash.len(), 1);
    store.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn a_machine_s_live_tokens_are_listed_in_the_order_of_issue() {
    let store = store(10);
    store.put(token(1), record(1), TTL).await.unwrap();
    store.put(token(9), record(9), TTL).await.unwrap();
    advance(TTL / 2).await;
    store.put(token(2), record(1), TTL).await.unwrap();
    store.put(token(3), record(1), TTL).await.unwrap();
    let instance = record(1).instance;
    let listed = |tokens: Vec<(TokenHash, Record)>| -> Vec<TokenHash> {
        assert!(tokens.iter().all(|(_, listed)| *listed == record(1)));
        tokens.into_iter().map(|(token, _)| token).collect()
    };
    let all = listed(store.list(instance).await.unwrap());
    assert_eq!(all, [token(1), token(2), token(3)]);
    advance(TTL / 2).await;
    assert_eq!(listed(store.list(instance).await.unwrap()), [token(2), token(3)]);
    assert_eq!(store.list(Uuid::from_u128(5)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn revoking_a_machine_s_tokens_leaves_the_others() {
    let store = store(10);
    store.put(token(1), record(1), TTL / 2).await.unwrap();
    advance(TTL / 2).await;
    for (number, instance) in [(2, 2), (3, 1), (4, 1)] {
        store.put(token(number), record(instance), TTL).await.unwrap();
    }
    assert_eq!(
        store.revoke(record(1).instance).await.unwrap(),
        2,
        "the expired one is not counted"
    );
    assert_eq!(store.revoke(record(1).instance).await.unwrap(), 0);
    assert!(!store.knows(3).await && !store.knows(4).await);
    assert!(store.knows(2).await, "another machine's");
    store.assert_consistent();
}
