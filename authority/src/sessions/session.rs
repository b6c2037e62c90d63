//! An open console as the register has it, and why one ends.

use super::description::Description;
use crate::text::printable_within;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use uuid::Uuid;
use vncgate_api::Traffic;

/// Longest reason of a Close frame, in bytes (RFC 6455 5.5.1): a control frame has 125, of which the code takes 2.
const CLOSE_REASON_LIMIT: usize = 123;

/// Most characters of a reason that an operator gives. More than fit into a Close frame are of no use.
const WORDS_LIMIT: usize = CLOSE_REASON_LIMIT;

/// An open console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// [`vncgate_api::Grant::session`].
    pub id: Uuid,
    /// The Envoy that has it (`node.id`), for people.
    pub gateway: Arc<str>,
    /// The Envoy worker that has it. Its name is a secret of the worker's: show [`Self::worker_id`] in its place.
    pub worker: Uuid,
    /// When the console was connected, by the gateway's clock, but not in the future.
    pub opened_at: SystemTime,
    /// What it was granted for.
    pub description: Description,
    /// What it has done, as last reported.
    pub traffic: Traffic,
    /// Why it was ordered to end. It is live until its worker reports that it has ended.
    pub ending: Option<Arc<EndReason>>,
    /// When this process learned that it has opened, by its own clock. `None` if it was open before.
    pub known_since: Option<Instant>,
    /// When this process learned of the user's last input, or of the session, by its own clock.
    pub input_known_since: Instant,
}

impl Session {
    /// Tells workers apart, and is of no use to report for one.
    pub fn worker_id(&self) -> String {
        worker_id(self.worker)
    }

    /// When the browser last sent a message.
    pub fn last_message_at(&self) -> Option<SystemTime> {
        self.traffic.last_message_at.map(time)
    }

    /// When the user last did something: see [`Traffic::last_input_at`].
    pub fn last_input_at(&self) -> Option<SystemTime> {
        self.traffic.last_input_at.map(time)
    }

    /// When it has to end at the latest.
    pub fn must_end_at(&self) -> Option<SystemTime> {
        self.description.must_end_at.map(time)
    }
}

/// The first part of a worker's name, which is random and 16 bytes long.
pub(super) fn worker_id(worker: Uuid) -> String {
    let mut id = worker.simple().to_string();
    id.truncate(8);
    id
}

/// The time so many milliseconds after the epoch. Later than the year 9999 is that year's last second: what writes dates
/// down knows no later one.
pub fn time(milliseconds: u64) -> SystemTime {
    const LATEST: u64 = 253_402_300_799_000;
    UNIX_EPOCH + Duration::from_millis(milliseconds.min(LATEST))
}

/// Milliseconds since the epoch.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Something that became of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The session, with what is known of it by now.
    pub session: Arc<Session>,
    /// What happened.
    pub change: SessionChange,
    /// Whether this authority took the report. Of all that share a store, one did: the one that writes audit records.
    pub reported_here: bool,
}

/// What became of sessions by one report or order.
pub type SessionEvents = Arc<[SessionEvent]>;

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// It is in the register from now on.
    Opened {
        /// It was open before, and the register did not know of it: the authority has restarted, or the store has lost
        /// the register.
        resumed: bool,
    },
    /// It was ordered to end: [`Session::ending`].
    Ordered,
    /// It is in the register no more.
    Ended {
        /// When, by the gateway's clock, but not in the future.
        at: SystemTime,
        /// Why: a word in snake case of the gateway's, or [`WORKER_GONE`] or [`NOT_RESUMED`]. For `ordered`, [`Session::ending`]
        /// has the reason.
        cause: String,
    },
}

/// [`SessionChange::Ended::cause`] if the worker reports no more: Envoy was killed, or its VM has trapped.
pub const WORKER_GONE: &str = "worker_gone";

/// [`SessionChange::Ended::cause`] of a session that the worker left out when it reported all of its sessions anew.
pub const NOT_RESUMED: &str = "not_resumed";

/// Why a session is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReason {
    /// For programs.
    pub code: EndCode,
    /// For the user.
    pub words: String,
    /// Who ended it, for log and audit: a caller's identifier. `None` if no person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl EndReason {
    /// The code with its own words.
    pub fn new(code: EndCode) -> Self {
        Self { code, words: code.words().to_owned(), by: None }
    }

    /// The same with other words for the user. They are made printable and cut; empty ones are left out.
    #[must_use]
    pub fn with_words(self, words: &str) -> Self {
        let words = printable_within(words.trim(), WORDS_LIMIT);
        if words.is_empty() { self } else { Self { words, ..self } }
    }

    /// The same, ended by this caller.
    #[must_use]
    pub fn by(self, caller: &str) -> Self {
        Self { by: Some(caller.to_owned()), ..self }
    }

    /// The reason of the Close frame: `CODE: WORDS`, cut to what fits into one.
    pub fn close_reason(&self) -> String {
        let mut reason = format!("{}: {}", self.code.as_str(), self.words);
        reason.truncate(reason.floor_char_boundary(CLOSE_REASON_LIMIT));
        reason
    }
}

/// Why a session is ended, for programs: a code of `docs/errors.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCode {
    /// A person ended it by the API.
    EndedByOperator,
    /// The token that opened it was revoked.
    TokenRevoked,
    /// The machine was powered off.
    MachinePoweredOff,
    /// The machine was suspended.
    MachineSuspended,
    /// The machine runs on another host.
    MachineMoved,
    /// The machine is not in vCenter any more.
    MachineRemoved,
    /// The console has another port.
    ConsoleMoved,
    /// Another machine of the host has its port.
    ConsoleShared,
    /// The machine left the caller's folders, or the caller or its project was disabled.
    AccessLost,
    /// It was open for as long as sessions may be.
    SessionTooLong,
    /// The user did nothing for as long as users may.
    SessionIdle,
    /// Another session took its place.
    ReplacedByNewer,
    /// There are more sessions than there may be: others were granted at the same moment.
    SessionLimit,
}

impl EndCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::EndedByOperator,
        Self::TokenRevoked,
        Self::MachinePoweredOff,
        Self::MachineSuspended,
        Self::MachineMoved,
        Self::MachineRemoved,
        Self::ConsoleMoved,
        Self::ConsoleShared,
        Self::AccessLost,
        Self::SessionTooLong,
        Self::SessionIdle,
        Self::ReplacedByNewer,
        Self::SessionLimit,
    ];

    /// The code as it stands in Close frames, in JSON and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndedByOperator => "ended_by_operator",
            Self::TokenRevoked => "token_revoked",
            Self::MachinePoweredOff => "machine_powered_off",
            Self::MachineSuspended => "machine_suspended",
            Self::MachineMoved => "machine_moved",
            Self::MachineRemoved => "machine_removed",
            Self::ConsoleMoved => "console_moved",
            Self::ConsoleShared => "console_shared",
            Self::AccessLost => "access_lost",
            Self::SessionTooLong => "session_too_long",
            Self::SessionIdle => "session_idle",
            Self::ReplacedByNewer => "replaced_by_newer",
            Self::SessionLimit => "session_limit",
        }
    }

    /// The status code of the Close frame (RFC 6455 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::EndedByOperator => 1001,
            _ => 1008,
        }
    }

    /// Words for the user, unless there are better ones.
    const fn words(self) -> &'static str {
        match self {
            Self::EndedByOperator => "An operator ended this session.",
            Self::TokenRevoked => "The link to this console was revoked.",
            Self::MachinePoweredOff => "The machine was powered off.",
            Self::MachineSuspended => "The machine was suspended.",
            Self::MachineMoved => "The machine moved to another host.",
            Self::MachineRemoved => "The machine was removed.",
            Self::ConsoleMoved => "The machine's console has moved.",
            Self::ConsoleShared => "Another machine uses this console's port.",
            Self::AccessLost => "You may not use this console any more.",
            Self::SessionTooLong => "The session was open for as long as is allowed.",
            Self::SessionIdle => "The session was idle for too long.",
            Self::ReplacedByNewer => "A newer session took over this console.",
            Self::SessionLimit => "There are too many open consoles.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_close_frame_fits_into_one() {
        for code in EndCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            let reason = EndReason::new(code);
            let shown = reason.close_reason();
            assert_eq!(shown, format!("{}: {}", code.as_str(), code.words()));
            assert!(shown.len() <= CLOSE_REASON_LIMIT, "{shown}");
            let long = reason.clone().with_words(&"ü".repeat(1000)).close_reason();
            assert!(long.len() <= CLOSE_REASON_LIMIT && long.starts_with(code.as_str()), "{long}");
            assert_eq!(reason.clone().with_words(" \n "), reason);
        }
        let forged = EndReason::new(EndCode::EndedByOperator).with_words("over\r\n\u{1b}[31m");
        assert_eq!(forged.words, "over\\r\\n\\u{1b}[31m");
    }

    /// The page leaves the usual words out, since it has words of its own in each language.
    #[test]
    fn the_console_page_knows_the_usual_words() {
        let page = include_str!("../../pages/reasons.js");
        for code in EndCode::ALL {
            let usual = format!("    {}: {:?},\n", code.as_str(), code.words());
            assert!(page.contains(&usual), "{usual}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_written_down_is_the_last_one() {
        for (said, kept) in [(0, 0), (1, 1), (u64::MAX, 253_402_300_799_000)] {
            assert_eq!(milliseconds(time(said)), kept);
            humantime::format_rfc3339_seconds(time(said)).to_string();
        }
    }
}
