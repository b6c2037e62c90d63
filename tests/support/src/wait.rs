//! How long tests wait, and for what.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Generous: several Envoys and a compiler may share two cores.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What a busy machine may add to a time within which something is promised: a limit of a test is the promise and this.
///
/// Of two cores that several tests and their parts share, a part may have to wait for one.
pub const SLACK: Duration = Duration::from_secs(2);

/// How often a condition is checked.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Awaits what must happen within [`LIMIT`].
///
/// # Panics
///
/// Naming `what` was awaited, when it does not happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// Polls until `condition` holds.
///
/// # Panics
///
/// Naming `what` was awaited, when it does not hold within [`LIMIT`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    until_some(what, async || condition().await.then_some(())).await;
}

/// Polls until `condition` has a value.
///
/// # Panics
///
/// Naming `what` was awaited, when [`LIMIT`] is over.
pub async fn until_some<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    poll(what, LIMIT, LIMIT, condition).await
}

/// The same with a time that is part of what a test shows, and [`SLACK`] beyond it.
///
/// # Panics
///
/// Naming `what` was awaited, when both are over.
pub async fn until_within<T>(
    what: &str,
    promised: Duration,
    condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    poll(what, promised, promised + SLACK, condition).await
}

async fn poll<T>(
    what: &str,
    promised: Duration,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {promised:?}: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
