//! Writes reports and reads the authority's answers.

use super::entry::{EndedEntry, Open};
use crate::check::Reply;
use std::time::Duration;
use vncgate_api::{
    EndedSession, OpenedSession, SessionActivity, SessionReply, SessionReport, Traffic,
};

/// About how many bytes a session takes in a report, without its description.
pub(super) const ENTRY_LEN: usize = 300;

/// What a report says.
#[derive(Default)]
pub(super) struct Report<'a> {
    pub(super) restart: bool,
    pub(super) opened: Vec<&'a Open>,
    pub(super) active: Vec<&'a Open>,
    pub(super) ended: Vec<&'a EndedEntry>,
}

/// Writes the body of a report.
pub(super) fn write_report(
    worker: Option<&str>,
    gateway: &str,
    wait_seconds: u32,
    report: &Report<'_>,
) -> Vec<u8> {
    // An end that comes with its opening: the session was over before it was reported.
    let unknown = report.ended.iter().map(|entry| &entry.open).filter(|open| !open.told);
    let report = SessionReport {
        worker: worker.map(Into::into),
        gateway: gateway.into(),
        restart: report.restart,
        opened: report.opened.iter().copied().chain(unknown).map(opened).collect(),
        active: report.active.iter().map(|open| activity(open)).collect(),
        ended: report.ended.iter().map(|entry| ended(entry)).collect(),
        wait_seconds,
    };
    // Its types rule a failure out.
    serde_json::to_vec(&report).unwrap_or_default()
}

fn opened(open: &Open) -> OpenedSession<'_> {
    OpenedSession {
        session: open.session.as_ref().into(),
        opened_at: milliseconds(open.opened_at),
        description: open.description.as_ref().into(),
        traffic: traffic(open),
        known: open.known,
    }
}

fn activity(open: &Open) -> SessionActivity<'_> {
    SessionActivity { session: open.session.as_ref().into(), traffic: traffic(open) }
}

fn ended(entry: &EndedEntry) -> EndedSession<'_> {
    EndedSession {
        session: entry.open.session.as_ref().into(),
        ended_at: milliseconds(entry.ended_at),
        cause: entry.cause.as_str().into(),
        traffic: traffic(&entry.open),
    }
}

fn traffic(open: &Open) -> Traffic {
    Traffic {
        from_browser: open.bytes.from_browser,
        to_browser: open.bytes.to_browser,
        last_message_at: open.last_message_at.map(milliseconds),
        last_input_at: open.last_input_at.map(milliseconds),
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Reads the authority's answer. `None` for one that is not of the API.
pub(super) fn read_reply(reply: Reply<'_>) -> Option<SessionReply> {
    match reply {
        Reply::Answer { status: 200, body } => {
            serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
        }
        _ => None,
    }
}
