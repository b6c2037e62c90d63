//! The protocol versions of RFB.

/// RFC 6143 7.1.1: `RFB 003.008` and a line feed.
pub(crate) const VERSION_LEN: usize = 12;

/// The versions with different handshakes (RFC 6143 appendix A), oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V3_3,
    V3_7,
    V3_8,
}

impl Version {
    /// Parses `RFB xxx.yyy\n`. Versions before 3.7 are spoken as 3.3, and those after 3.8 as 3.8.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let (major, minor) = text.strip_prefix("RFB ")?.strip_suffix('\n')?.split_once('.')?;
        match (major.parse::<u16>().ok()?, minor.parse::<u16>().ok()?) {
            (3, 7) => Some(Self::V3_7),
            (3, 0..=6) => Some(Self::V3_3),
            (3.., _) => Some(Self::V3_8),
            _ => None,
        }
    }

    pub(crate) fn as_bytes(self) -> &'static [u8; VERSION_LEN] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => b"RFB 003.008\n",
        }
    }
}
