//! What a process holds, read from `/proc`.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use std::fs;

/// Memory and descriptors of a process at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    /// Resident memory in KiB.
    pub(crate) rss_kib: u64,
    /// Open file descriptors.
    pub(crate) descriptors: usize,
}

impl Usage {
    /// What a process holds now.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn of(id: u32) -> Result<Self> {
        let gone = || format!("process {id} is gone");
        let status = fs::read_to_string(format!("/proc/{id}/status")).with_context(gone)?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).with_context(gone)?;
        let rss_kib = rss.trim().trim_end_matches(" kB").parse().context("a number of kB")?;
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).with_context(gone)?.count();
        Ok(Self { rss_kib, descriptors })
    }
}

/// Lets this process, and those that it starts from now on, have so many descriptors open at once.
///
/// # Errors
///
/// When the limit is lower and this user may not raise it.
pub(crate) fn allow_descriptors(needed: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).with_context(|| {
        format!(
            "this many sessions need {needed} file descriptors in one process, and the limit is {hard}: \
             raise it as root (`ulimit -Hn {needed}`), or ask for fewer sessions (--sessions)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_more_is_counted() {
        let own = std::process::id();
        let before = Usage::of(own).unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        let after = Usage::of(own).unwrap();
        // Other tests of this process open files too.
        assert!(after.descriptors >= before.descriptors + files.len() - 10);
        assert!(after.rss_kib > 500);
    }

    #[test]
    fn a_process_that_is_gone_is_said_to_be() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        assert!(Usage::of(id).unwrap_err().to_string().contains("is gone"));
    }

    #[test]
    fn what_is_allowed_already_is_not_asked_for() {
        allow_descriptors(3).unwrap();
        let refused = allow_descriptors(u64::MAX / 2).unwrap_err().to_string();
        assert!(refused.contains("--sessions"), "{refused}");
    }
}
