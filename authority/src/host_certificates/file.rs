//! A file that one process writes, and that another one reads whenever it is replaced.

use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::Builder;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// A little longer than an authority takes to drain.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The file, locked against other authorities.
pub(super) struct PinsFile {
    path: PathBuf,
    /// What was written last, as the file system shows it.
    stamp: Option<Stamp>,
    /// `PATH.lock`. The kernel drops the lock with the process.
    _lock: File,
}

/// Differs after any change of content, mode or name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Unlike the time of the last modification it cannot be set.
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let changed = (file.ctime(), file.ctime_nsec());
        Self { inode: file.ino(), size: file.size(), changed }
    }
}

impl PinsFile {
    /// Locks the file. Two authorities with one file would undo each other's work. An authority that drains still has it,
    /// so its successor waits.
    pub(super) async fn lock(path: PathBuf) -> io::Result<Self> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match Self::try_lock(&path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                    sleep(LOCK_PAUSE).await;
                }
                locked => return locked,
            }
        }
    }

    fn try_lock(path: &Path) -> io::Result<Self> {
        let lock_path = path.with_added_extension("lock");
        let mut options = OpenOptions::new();
        let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
        // The path that an operator knows is another one, and may well be writable.
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", lock_path.display()))
        };
        let lock = options.open(&lock_path).map_err(named)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), stamp: None, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let reason =
                    format!("another authority writes it and holds {}", lock_path.display());
                Err(io::Error::new(io::ErrorKind::AddrInUse, reason))
            }
            Err(TryLockError::Error(error)) => Err(named(error)),
        }
    }

    /// Is the file there as it was written?
    pub(super) async fn is_intact(&self) -> bool {
        let found = tokio::fs::symlink_metadata(&self.path).await;
        found.is_ok_and(|found| self.stamp == Some(Stamp::of(&found)))
    }

    /// Replaces the file by a rename. Envoy watches for renames, and never sees half a file.
    pub(super) async fn write(&mut self, content: String) -> io::Result<()> {
        let path = self.path.clone();
        let written = spawn_blocking(move || replace(&path, &content)).await;
        self.stamp = Some(written.map_err(io::Error::other)??);
        Ok(())
    }
}

/// The new file gets a random name first, under which it is created and not opened: a link that waits there is not
/// followed. It may be read by others, as far as the process's umask allows.
fn replace(path: &Path, content: &str) -> io::Result<Stamp> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut new = Builder::new()
        .prefix(".esxi-hosts-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    new.write_all(content.as_bytes())?;
    // The rename is a change as well.
    Ok(Stamp::of(&new.persist(path)?.metadata()?))
}
