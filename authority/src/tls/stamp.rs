//! What tells one state of a file from the next, by `stat` alone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device, inode, size, and the times of the content and of the inode. `None` if there is no such file.
pub type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// The state of a file now.
pub fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    let times = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some((file.dev(), file.ino(), file.size(), times.0, times.1))
}
