//! SIGHUP: reads the configuration again and puts it in force as a whole, or leaves everything as it is.

use super::parts::Parts;
use crate::audit::AuditTrail;
use crate::config::{Config, ConfigError};
use crate::session_access::end_removed;
use crate::sites::tls::PeerAcceptor;
use crate::telemetry::{Log, Metrics};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::fs;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

/// How long the file has to be unchanged before it is read. An editor or `cp` that is writing it takes less between two
/// writes, and half a file can be a good configuration with half of the vCenters.
const SETTLED: Duration = Duration::from_secs(1);

/// How often it is looked at until it is read in any case.
const LOOKS: usize = 10;

/// Reloads when the process gets SIGHUP.
pub(super) struct Reloads {
    pub(super) path: PathBuf,
    pub(super) hangup: Signal,
    pub(super) log: Log,
    pub(super) audit: Arc<AuditTrail>,
    /// The listener for other sites, if there is one.
    pub(super) peer: Option<PeerAcceptor>,
}

impl Reloads {
    /// Reloads at each SIGHUP, one after the other. Signals that arrive during a reload cause one more.
    pub(super) async fn run(&mut self, current: &watch::Sender<Arc<Parts>>, metrics: &Metrics) {
        while self.hangup.recv().await.is_some() {
            let file = self.path.display();
            info!(%file, "SIGHUP: reloading the configuration");
            // First, and whatever the configuration is like: the file may have been rotated.
            self.audit.reopen();
            let outcome = self.reload(current).await;
            metrics.config_loaded(outcome.is_ok());
            match outcome {
                Ok(()) => info!(%file, "the configuration was reloaded"),
                Err(problems) => {
                    for problem in problems {
                        error!(%file, problem, "the configuration was not reloaded and stays as it was");
                    }
                }
            }
        }
    }

    /// Puts the file's configuration in force, or returns every problem with it.
    async fn reload(&self, current: &watch::Sender<Arc<Parts>>) -> Result<(), Vec<String>> {
        wait_until_settled(&self.path).await;
        let path = self.path.clone();
        let loaded = spawn_blocking(move || Config::load(&path)).await;
        let mut config = loaded
            .map_err(|panicked| vec![panicked.to_string()])?
            .map_err(ConfigError::into_problems)?;
        let peer_tls = config.sites.as_mut().and_then(|sites| sites.peer.take());
        let (log, audit) = (config.log.clone(), config.audit.clone());
        let previous = Arc::clone(&current.borrow());
        let next = previous.next(config).await?;
        self.audit.configure(audit).map_err(|error| vec![format!("audit: {error}")])?;
        self.log.configure(&log);
        // [listen] does not change in a reload, so there is a listener if there is TLS for one.
        if let (Some(acceptor), Some((_, tls))) = (&self.peer, peer_tls) {
            acceptor.replace(tls);
        }
        next.log_changes(&previous);
        let next = Arc::new(next);
        // Requests under way keep the parts that they began with.
        current.send_replace(Arc::clone(&next));
        let app = &next.app;
        match end_removed(&app.sessions, &previous.app.identity, &app.identity).await {
            Ok(0) => {}
            Ok(sessions) => info!(sessions, "sessions end because their API token was removed"),
            Err(error) => {
                warn!(%error, "sessions of an API token that was removed cannot be ended")
            }
        }
        // Envoy's requests that are held for news ask again, and get them from the new parts.
        previous.app.draining.cancel();
        Ok(())
    }
}

/// Waits until nothing has written to the file for [`SETTLED`].
async fn wait_until_settled(path: &Path) {
    let is_settled = |stamp: &Stamp| {
        SystemTime::now().duration_since(stamp.modified).is_ok_and(|age| age >= SETTLED)
    };
    let mut stamp = Stamp::of(path).await;
    if stamp.as_ref().is_some_and(is_settled) {
        return;
    }
    for _ in 0..LOOKS {
        sleep(SETTLED).await;
        let next = Stamp::of(path).await;
        if next == stamp {
            return;
        }
        stamp = next;
    }
}

/// Differs after a file was written to or replaced.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: SystemTime,
}

impl Stamp {
    async fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).await.ok()?;
        Some(Self { inode: file.ino(), size: file.len(), modified: file.modified().ok()? })
    }
}
