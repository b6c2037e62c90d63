//! What a record of the audit trail tells.

use super::fields::{Actor, MachineFields, OriginFields, TokenFields};
use serde::Serialize;
use std::net::SocketAddr;
use uuid::Uuid;

/// Something that the trail has a record of. The names are those of `docs/audit.schema.json`, which a test compares with
/// records as they are written; a name that has been released is not changed without a new version of the schema.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The process begins to write here.
    TrailOpened {
        /// Name and version of the program.
        software: &'static str,
        /// `started`, `reopened` (SIGHUP, or the file was removed), or `configured` (a reload named another file).
        reason: &'static str,
    },
    /// The process ends as it was told to. A trail that ends without it was cut off.
    TrailClosed {},
    /// Records could not be written for a while. Those that were kept follow this one.
    TrailInterrupted {
        /// How many are missing, because there was no room to keep them.
        lost: u64,
        /// Since when, RFC 3339 in UTC. Absent if records came faster than they could be written.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<String>,
        /// The reason in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A caller has a link to a console.
    TokenIssued {
        /// For which machine, and to whom.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// When the link expires, RFC 3339 in UTC.
        expires_at: String,
    },
    /// A caller asked for a link to a console and got none.
    TokenRefused {
        /// For which machine, and who.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// The name of nova's error.
        refusal: &'static str,
        /// The reason in words.
        error: String,
    },
    /// A link was ended before its time.
    TokenRevoked {
        /// Whose, and for which machine.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// By whom.
        #[serde(flatten)]
        actor: Actor,
    },
    /// All links of a machine were ended before their time.
    TokensRevoked {
        /// The machine.
        instance: Uuid,
        /// How many there were.
        count: usize,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// By whom.
        #[serde(flatten)]
        actor: Actor,
    },
    /// The gateway may connect a browser with a console.
    SessionGranted {
        /// The session.
        session: Uuid,
        /// By which link.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// Where the console is.
        address: SocketAddr,
        /// The other site that asked, and has the gateway.
        #[serde(skip_serializing_if = "Option::is_none")]
        site: Option<String>,
    },
    /// A link opened nothing.
    SessionRefused {
        /// The session, if it had come so far.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<Uuid>,
        /// Which link. An unknown one has no more than its identifier.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// The code of `docs/errors.md`.
        refusal: &'static str,
        /// The reason in words.
        error: String,
        /// The other site that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        site: Option<String>,
    },
    /// The gateway has connected a browser with a console.
    SessionOpened {
        /// The session.
        session: Uuid,
        /// By which link.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// Where the console is.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
        /// The Envoy that has it.
        gateway: String,
        /// When, by the gateway's clock.
        opened_at: String,
    },
    /// A person has a session end. A gateway that is gone does not hear of it.
    SessionEndOrdered {
        /// The session.
        session: Uuid,
        /// By which link it was opened.
        #[serde(flatten)]
        token: TokenFields,
        /// Who orders it.
        by: String,
        /// The code of `docs/errors.md`.
        cause: &'static str,
        /// What the user is told.
        reason: String,
    },
    /// A session has ended.
    SessionEnded {
        /// The session.
        session: Uuid,
        /// By which link it was opened.
        #[serde(flatten)]
        token: TokenFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// Where the console was.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
        /// The Envoy that had it.
        gateway: String,
        /// When it opened, by the gateway's clock.
        opened_at: String,
        /// When it ended, by the gateway's clock.
        ended_at: String,
        /// The time between them.
        duration_seconds: f64,
        /// What the browser sent to the console.
        bytes_from_browser: u64,
        /// What the console sent to the browser.
        bytes_to_browser: u64,
        /// When the browser last sent a message.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_message_at: Option<String>,
        /// When the user last pressed a key, used the pointer or sent a clipboard.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_input_at: Option<String>,
        /// Why.
        cause: String,
        /// What the user was told, if the authority has ended it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The person who has ended it.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A caller has a machine switched on or off, or rebooted.
    PowerRequested {
        /// Which machine, and who.
        #[serde(flatten)]
        machine: MachineFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// The change: [`PowerChange::name`](crate::power::PowerChange::name).
        change: &'static str,
    },
    /// What [`Self::PowerRequested`] tells did not happen.
    PowerRefused {
        /// Which machine, and who.
        #[serde(flatten)]
        machine: MachineFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// The change.
        change: &'static str,
        /// The name of nova's error.
        refusal: &'static str,
        /// The reason in words.
        error: String,
    },
    /// A caller gets a picture of what a machine shows.
    ScreenshotShown {
        /// Which machine, and who.
        #[serde(flatten)]
        machine: MachineFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
    },
    /// A caller asked for a picture of what a machine shows and got none.
    ScreenshotRefused {
        /// Which machine, and who.
        #[serde(flatten)]
        machine: MachineFields,
        /// From where.
        #[serde(flatten)]
        origin: OriginFields,
        /// The name of nova's error.
        refusal: &'static str,
        /// The reason in words.
        error: String,
    },
}

impl Event {
    /// The event's name, for the metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::TrailOpened { .. } => "trail_opened",
            Self::TrailClosed {} => "trail_closed",
            Self::TrailInterrupted { .. } => "trail_interrupted",
            Self::TokenIssued { .. } => "token_issued",
            Self::TokenRefused { .. } => "token_refused",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::TokensRevoked { .. } => "tokens_revoked",
            Self::SessionGranted { .. } => "session_granted",
            Self::SessionRefused { .. } => "session_refused",
            Self::SessionOpened { .. } => "session_opened",
            Self::SessionEndOrdered { .. } => "session_end_ordered",
            Self::SessionEnded { .. } => "session_ended",
            Self::PowerRequested { .. } => "power_requested",
            Self::PowerRefused { .. } => "power_refused",
            Self::ScreenshotShown { .. } => "screenshot_shown",
            Self::ScreenshotRefused { .. } => "screenshot_refused",
        }
    }
}
