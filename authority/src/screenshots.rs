//! Pictures of what machines show, shared by all who ask for them within a second.
//!
//! A list of machines with their pictures is open in many browsers at once. vCenter makes one picture of a machine for all of
//! them, and not more than one a second.

use crate::vcenter::reference::MachineRef;
use crate::vcenter::{Vcenter, VcenterError};
use axum::body::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How long a picture is the answer, from when vCenter was asked for it.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Machines of which there is a picture, or is to be one, at the same time, at most. Each picture has up to 4 MiB.
const MACHINES_MAX: usize = 32;

/// Why there is no picture.
#[derive(Clone, Debug, Error)]
pub enum ScreenshotError {
    /// Pictures of too many machines are asked for.
    #[error("pictures of {MACHINES_MAX} machines are being made")]
    Busy,
    /// vCenter has none.
    #[error(transparent)]
    Vcenter(#[from] VcenterError),
    /// The authority is shutting down.
    #[error("the picture was abandoned")]
    Abandoned,
}

/// A machine, by its vCenter's service host and its identifier there.
type Key = (String, MachineRef);

/// A picture that vCenter was asked for, or the reason why there is none.
type Picture = Shared<BoxFuture<'static, Result<Bytes, ScreenshotError>>>;

/// The pictures of this second.
#[derive(Default)]
pub struct Screenshots {
    recent: Mutex<HashMap<Key, Picture>>,
}

impl Screenshots {
    /// What a machine shows, as PNG: a picture of this second, for which vCenter is asked once.
    pub async fn take(
        self: &Arc<Self>,
        vcenter: &Arc<Vcenter>,
        machine: &MachineRef,
    ) -> Result<Bytes, ScreenshotError> {
        self.shared(vcenter, machine)?.await
    }

    fn shared(
        self: &Arc<Self>,
        vcenter: &Arc<Vcenter>,
        machine: &MachineRef,
    ) -> Result<Picture, ScreenshotError> {
        let key = (vcenter.service_host().to_owned(), machine.clone());
        let mut recent = self.lock();
        if let Some(picture) = recent.get(&key) {
            return Ok(picture.clone());
        }
        if recent.len() >= MACHINES_MAX {
            return Err(ScreenshotError::Busy);
        }
        let (made, waiting) = oneshot::channel();
        let waiting = waiting.map(|made| made.unwrap_or(Err(ScreenshotError::Abandoned)));
        let picture = waiting.boxed().shared();
        recent.insert(key.clone(), picture.clone());
        let (all, vcenter) = (Arc::clone(self), Arc::clone(vcenter));
        // A task of its own: the caller who asked first may stop waiting before the others.
        tokio::spawn(async move {
            let until = Instant::now() + SHARED_FOR;
            let _entry = Entry { all, key: key.clone() };
            let (_, machine) = key;
            // All who asked may have stopped waiting.
            let _ = made.send(vcenter.screenshot(&machine).await.map_err(ScreenshotError::from));
            sleep_until(until).await;
        });
        Ok(picture)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Picture>> {
        // Every change is complete even if a holder panicked.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A picture's place among those of this second, until it is dropped.
struct Entry {
    all: Arc<Screenshots>,
    key: Key,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}
