use super::*;
use tokio::time::advance;

const TTL: Duration = Duration::from_secs(600);

const LIMITS: TokenLimits = TokenLimits {
    per_caller: NonZeroUsize::new(1000).expect("it is not zero"),
    per_project: NonZeroUsize::new(1000).expect("it is not zero"),
};

fn store(capacity: usize) -> MemoryStore {
    MemoryStore::new(NonZeroUsize::new(capacity).unwrap())
}

fn record(instance: u128) -> Record {
    Record {
        instance: Uuid::from_u128(instance),
        caller: "alice".to_owned(),
        project: Some("a".to_owned()),
        ..Record::for_tests()
    }
}

fn token(number: usize) -> TokenHash {
    TokenHash::of(&number.to_string())
}

impl MemoryStore {
    async fn knows(&self, number: usize) -> bool {
        self.get(token(number)).await.unwrap().is_some()
    }

    /// Each map has what the others have, and no empty queue.
    fn assert_consistent(&self) {
        let tokens = self.tokens();
        let stored = tokens.by_hash.len();
        let queued = |queues: &HashMap<String, Queue>| -> usize {
            assert!(queues.values().all(|queue| !queue.is_empty()));
            queues.values().map(Queue::len).sum()
        };
        assert_eq!(queued(&tokens.by_caller), stored);
        let in_projects = tokens.by_hash.values().filter(|entry| entry.record.project.is_some());
        assert_eq!(queued(&tokens.by_project), in_projects.count());
        assert_eq!(tokens.by_expiry.len(), stored);
        let listed: usize = tokens.by_instance.values().map(Vec::len).sum();
        assert_eq!(listed, stored);
        for (token, Entry { record, expires }) in &tokens.by_hash {
            let queued = (*expires, *token);
            assert!(tokens.by_expiry.contains(&queued));
            assert!(tokens.by_instance[&record.instance].contains(token));
            assert!(tokens.by_caller[&record.caller].contains(&queued));
        }
    }
}

/// A record of this caller's and this project's.
fn issued_to(caller: &str, project: Option<&str>, instance: u128) -> Record {
    let (caller, project) = (caller.to_owned(), project.map(str::to_owned));
    Record { caller, project, ..record(instance) }
}

/// A limit of this many tokens, for callers or for projects.
fn at_most(per_caller: usize, per_project: usize) -> TokenLimits {
    let some = |number| NonZeroUsize::new(number).unwrap();
    TokenLimits { per_caller: some(per_caller), per_project: some(per_project) }
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_for_its_time_and_not_longer() {
    let store = store(10);
    store.put(token(1), record(1), TTL, LIMITS).await.unwrap();
    assert_eq!(store.get(token(1)).await.unwrap(), Some(record(1).into()));
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
    store.put(token(1), record(1), TTL, LIMITS).await.unwrap();
    assert_eq!(store.take(token(1)).await.unwrap(), Some(record(1).into()));
    assert_eq!(store.take(token(1)).await.unwrap(), None);
    assert!(!store.knows(1).await);
    store.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_a_token_and_drops_none_before_its_time() {
    let store = store(3);
    for number in 1..=3 {
        store.put(token(number), record(number as u128), TTL, LIMITS).await.unwrap();
        advance(Duration::from_secs(1)).await;
    }
    let put = async || store.put(token(4), issued_to("bob", None, 4), TTL, LIMITS).await;
    let full = put().await.unwrap_err().to_string();
    assert_eq!(full, "the token store has too many live tokens; the first of them expires in 597s");
    for number in 1..=3 {
        assert!(store.knows(number).await);
    }
    advance(TTL - Duration::from_secs(3)).await;
    put().await.unwrap();
    assert!(store.knows(2).await && store.knows(4).await);
    store.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn one_tenant_s_tokens_push_out_no_other_tenant_s() {
    let store = store(1000);
    let put =
        async |number, record| match store.put(token(number), record, TTL, at_most(4, 6)).await {
            Err(PutError::LimitReached(reached)) => Some((reached.limit, reached.retry_after)),
            stored => {
                stored.unwrap();
                None
            }
        };
    assert_eq!(put(0, issued_to("victim", Some("v"), 0)).await, None);
    advance(Duration::from_secs(10)).await;
    let mut refused = Vec::new();
    for number in 1..=9_366 {
        // Two users of one project, each with as many machines as it likes.
        let user = if number % 2 == 0 { "mallory" } else { "mallet" };
        refused.extend(put(number, issued_to(user, Some("m"), number as u128)).await);
    }
    assert_eq!(refused.len(), 9_366 - 6, "the project's limit");
    assert!(refused.iter().all(|limit| *limit == (Limit::Project, TTL)), "{refused:?}");
    assert!(store.knows(0).await && store.knows(1).await, "every issued token lives");

    // One user in many projects.
    for number in 20_000..20_002 {
        let project = number.to_string();
        let refused = put(number, issued_to("mallory", Some(&project), 1)).await;
        assert_eq!(refused, (number > 20_000).then_some((Limit::Caller, TTL)));
    }
    assert_eq!(put(30_000, issued_to("victim", Some("v"), 0)).await, None);

    // A token that was used up, revoked or has expired counts no more.
    assert!(store.take(token(1)).await.unwrap().is_some());
    assert_eq!(put(1, issued_to("mallet", Some("m"), 1)).await, None);
    assert_eq!(store.revoke(Uuid::from_u128(3)).await.unwrap().len(), 1);
    assert_eq!(put(3, issued_to("mallet", Some("m"), 3)).await, None);
    advance(TTL).await;
    assert_eq!(put(40_000, issued_to("mallet", Some("m"), 3)).await, None);
    assert_eq!(store.tokens().by_hash.len(), 1);
    store.assert_consistent();
}

#[tokio::test]
async fn one_caller_s_tokens_for_a_machine_push_out_no_other_caller_s() {
    let store = store(10 * TOKENS_PER_INSTANCE);
    store.put(token(0), issued_to("alice", None, 1), TTL, LIMITS).await.unwrap();
    for number in 1..=2 * TOKENS_PER_INSTANCE {
        store.put(token(number), issued_to("mallory", None, 1), TTL, LIMITS).await.unwrap();
    }
    assert!(store.knows(0).await, "another caller's for the same machine");
    let bobs = 9 * TOKENS_PER_INSTANCE;
    store.put(token(bobs), issued_to("bob", None, 1), TTL, LIMITS).await.unwrap();
    assert!(store.knows(bobs).await && store.knows(0).await);
    assert_eq!(store.list(Uuid::from_u128(1)).await.unwrap().len(), TOKENS_PER_INSTANCE);
    store.assert_consistent();
}

#[tokio::test]
async fn one_machine_s_tokens_push_out_nobody_else_s() {
    let store = store(10 * TOKENS_PER_INSTANCE);
    store.put(token(0), record(1), TTL, LIMITS).await.unwrap();
    for number in 1..=TOKENS_PER_INSTANCE + 1 {
        store.put(token(number), record(2), TTL, LIMITS).await.unwrap();
    }
    assert!(store.knows(0).await, "another machine's");
    assert!(!store.knows(1).await, "the busy machine's oldest");
    assert!(store.knows(2).await);
    store.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn a_machine_s_expired_tokens_are_dropped_at_its_next_issue() {
    let store = store(10);
    store.put(token(1), record(1), TTL, LIMITS).await.unwrap();
    store.put(token(2), record(1), TTL, LIMITS).await.unwrap();
    advance(TTL).await;
    store.put(token(3), record(1), TTL, LIMITS).await.unwrap();
    assert_eq!(store.tokens().by_hash.len(), 1);
    store.assert_consistent();
}

#[tokio::test(start_paused = true)]
async fn a_machine_s_live_tokens_are_listed_in_the_order_of_issue() {
    let store = store(10);
    store.put(token(1), record(1), TTL, LIMITS).await.unwrap();
    store.put(token(9), record(9), TTL, LIMITS).await.unwrap();
    advance(TTL / 2).await;
    store.put(token(2), record(1), TTL, LIMITS).await.unwrap();
    store.put(token(3), record(1), TTL, LIMITS).await.unwrap();
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
    store.put(token(1), record(1), TTL / 2, LIMITS).await.unwrap();
    advance(TTL / 2).await;
    for (number, instance) in [(2, 2), (3, 1), (4, 1)] {
        store.put(token(number), record(instance), TTL, LIMITS).await.unwrap();
    }
    assert_eq!(
        store.revoke(record(1).instance).await.unwrap().len(),
        2,
        "the expired one is not counted"
    );
    assert_eq!(store.revoke(record(1).instance).await.unwrap().len(), 0);
    assert!(!store.knows(3).await && !store.knows(4).await);
    assert!(store.knows(2).await, "another machine's");
    store.assert_consistent();
}
