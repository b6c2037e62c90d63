//! The journal: what changes the register, in the order that all authorities of a store agree on.
//!
//! Each authority has the whole register in memory and applies the same entries to it in the same order. So a store
//! need not keep the register, only the latest entries, for as long as an authority takes to read them. An authority that
//! has missed some, and one that starts, asks all workers to report their sessions anew ([`Entry::Resend`]).

use super::session::EndReason;
use crate::tokens::{StoreUnavailable, TokenHash};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;
use vncgate_api::Traffic;

/// An entry with its identifier.
pub(super) type Identified = (Uuid, Entry);

/// What changes the register.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// A worker's report.
    Report(Report),
    /// These sessions have to end.
    End { sessions: Vec<Uuid>, reason: EndReason },
    /// What these tokens have opened has to end, and what they are about to open: a browser may have been let through
    /// whose session no worker has reported yet.
    Revoked { tokens: Vec<TokenHash>, reason: EndReason },
    /// Every worker has to report its sessions anew.
    Resend,
    /// A worker was not heard of for too long. Void if it was heard of since the report with this identifier.
    Gone { worker: Uuid, last: Uuid },
    /// The sessions that a worker has not reported since it began to report anew are over. Void if it began again since
    /// the report with this identifier.
    Resent { worker: Uuid, restart: Uuid },
}

/// A [`vncgate_api::SessionReport`] that was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) worker: Uuid,
    pub(super) gateway: String,
    /// The worker's first report.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) first: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) restart: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) opened: Vec<Opened>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) active: Vec<(Uuid, Traffic)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ended: Vec<Ended>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) session: Uuid,
    pub(super) opened_at: u64,
    pub(super) description: String,
    pub(super) traffic: Traffic,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) known: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) session: Uuid,
    pub(super) ended_at: u64,
    pub(super) cause: String,
    pub(super) traffic: Traffic,
}

/// A place in a journal, as its store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub String);

/// What was read of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The entries after the position that was asked for, in order.
    pub entries: Vec<String>,
    /// The position after them.
    pub position: Position,
    /// There may be further entries: read on.
    pub more: bool,
    /// Entries between the position that was asked for and the first of these are missing, or no position was asked for.
    pub missed: bool,
}

/// How long an entry is kept. Authorities read every half second; one that was stopped for longer begins anew.
pub(super) const ENTRY_LIFE: Duration = Duration::from_secs(15);

/// How long a journal is kept that nothing is appended to. Workers report every 20 s while consoles are open.
pub(super) const JOURNAL_LIFE: Duration = Duration::from_secs(60 * 60);

/// Most entries that are read at once.
pub(super) const ENTRIES_AT_ONCE: usize = 16;

/// Keeps the entries that change the register for as long as authorities take to read them.
#[async_trait]
pub trait SessionJournal: Send + Sync {
    /// Appends an entry, at most [`vncgate_api::REPORT_LIMIT`] bytes and some more.
    async fn append(&self, entry: String) -> Result<(), StoreUnavailable>;

    /// Reads the entries after a position. Without one, reads no entry and returns the position of the last one. If the
    /// journal does not go back to the position, reads those that it has.
    async fn read(&self, after: Option<&Position>) -> Result<Read, StoreUnavailable>;
}
