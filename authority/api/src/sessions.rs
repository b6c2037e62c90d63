//! Wire types of the session reports, by which the gateway's workers and the authority agree on which consoles are open.
//!
//! Each Envoy worker keeps one call to `POST /v1/gateway/sessions` open, which the authority answers when it has an order
//! or after [`SessionReport::wait_seconds`]. What changes meanwhile the worker reports by further calls that do not wait, one
//! at a time and each with all changes since the last. Reports and orders may be repeated: the second of two that are equal changes
//! nothing.
//!
//! The worker returns with each session the description that the authority granted it with. So an authority that has
//! lost its register, as one with the memory store does when it restarts, has it back with the workers' next reports.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The path of the session reports on the authority's internal listener.
pub const SESSIONS_PATH: &str = "/v1/gateway/sessions";

/// Largest body of a report, in bytes: some 400 openings. What does not fit goes into the next report.
pub const REPORT_LIMIT: usize = 256 * 1024;

/// What a worker reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionReport<'a> {
    /// The name that the authority gave the worker in its last [`SessionReply`]. `None` in a worker's first call.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Cow<'a, str>>,
    /// The id of the Envoy that the worker belongs to (`node.id` of its bootstrap), for people.
    #[serde(borrow)]
    pub gateway: Cow<'a, str>,
    /// Forget what earlier reports of this worker said: `opened` begins anew, and goes on in the reports that follow.
    #[serde(default)]
    pub restart: bool,
    /// Sessions that have opened.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<OpenedSession<'a>>,
    /// What open sessions have done since the last report about them.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<SessionActivity<'a>>,
    /// Sessions that have ended.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedSession<'a>>,
    /// How long the authority may hold its answer until it has an order, in seconds. 0: answer at once.
    #[serde(default)]
    pub wait_seconds: u32,
}

/// A session whose console is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedSession<'a> {
    /// [`Grant::session`](crate::Grant::session).
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// When the console was connected, in milliseconds since the epoch.
    pub opened_at: u64,
    /// [`Grant::description`](crate::Grant::description), unchanged.
    #[serde(borrow)]
    pub description: Cow<'a, str>,
    /// What the session has done until now.
    pub traffic: Traffic,
    /// An authority has taken a report of it before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
}

/// What an open session has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionActivity<'a> {
    /// [`Grant::session`](crate::Grant::session).
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// What the session has done until now.
    pub traffic: Traffic,
}

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSession<'a> {
    /// [`Grant::session`](crate::Grant::session).
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// When its stream was gone, in milliseconds since the epoch.
    pub ended_at: u64,
    /// Why, as a word in snake case.
    #[serde(borrow)]
    pub cause: Cow<'a, str>,
    /// What the session did.
    pub traffic: Traffic,
}

/// Bytes and times of a session. Each report has the totals, so that a repeated or lost one does no harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of the browser that went to the console, without WebSocket's headers where the filter removes them.
    pub from_browser: u64,
    /// Bytes of the console that went to the browser, counted likewise.
    pub to_browser: u64,
    /// When the browser last sent a message, in milliseconds since the epoch, exact to the interval of the reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_at: Option<u64>,
    /// When the user last pressed a key, used the pointer or sent a clipboard, likewise. `None` if there was no such
    /// message, or [`Grant::reports_input`](crate::Grant::reports_input) did not ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_input_at: Option<u64>,
}

/// The authority's answer to a [`SessionReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReply {
    /// The worker's name from here on. It is not to be guessed, so that no worker reports for another.
    pub worker: String,
    /// The authority does not know this worker's sessions: report all of them, beginning with
    /// [`SessionReport::restart`].
    #[serde(default)]
    pub restart: bool,
    /// What the worker has to do. An order for a session that is gone is done already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
}

/// What a worker has to do with an open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// End it with a Close frame (RFC 6455 5.5.1).
    End {
        /// [`Grant::session`](crate::Grant::session).
        session: String,
        /// The status code of the Close frame.
        code: u16,
        /// Its reason, at most 123 bytes: a code of `docs/errors.md`, a colon, and words for the user.
        reason: String,
    },
}
