//! Shares of the process's file descriptors: clients of one listener cannot take those that another one needs. The
//! internal listener has no share of its own and no limit. It always finds a fifth left, with the connections that
//! this process makes itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// What each listener may use of the process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorShares {
    /// Connections of the public listener.
    pub public: usize,
    /// Connections of the listener for other sites.
    pub peer: usize,
    /// Connections of the listener for metrics.
    pub metrics: usize,
    /// Clients of one listener that are in the TLS handshake. They come out of the listener's share, or for the internal
    /// listener out of what is left.
    pub handshakes: usize,
}

impl DescriptorShares {
    /// Shares of a process that may open this many descriptors.
    pub const fn of(descriptors: usize) -> Self {
        Self {
            public: descriptors / 2,
            peer: descriptors / 4,
            metrics: descriptors / 20,
            handshakes: descriptors / 10,
        }
    }

    /// Raises the limit (RLIMIT_NOFILE) as far as the process may, and shares it out. Supervisors leave it at 1,024 for
    /// programs that use `select(2)`, and allow hundreds of thousands.
    pub fn of_this_process() -> Self {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            warn!(%error, "cannot raise the limit of open files");
        }
        let limit = getrlimit(Resource::Nofile).current;
        Self::of(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
    }
}
