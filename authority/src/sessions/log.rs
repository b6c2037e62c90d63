//! Log lines about sessions, with the fields that the lines about tokens have.

use super::session::{Session, SessionChange};
use crate::text::printable;
use tracing::info;

/// Writes a line about a session: `log_session!(Session, MESSAGE; FIELD = VALUE, …)`.
macro_rules! log_session {
    ($session:expr, $message:literal; $($field:tt)*) => {{
        let (session, of) = ($session, &$session.description);
        let text = |text: &str| (!text.is_empty()).then(|| printable(text));
        info!(
            $($field)*
            session = %session.id,
            token_id = of.token_id.map(tracing::field::display),
            caller = text(&of.caller),
            user = of.user.as_deref().map(printable),
            project = of.project.as_deref().map(printable),
            instance = (!of.instance.is_nil()).then(|| tracing::field::display(of.instance)),
            machine = of.machine.as_deref().map(printable),
            vcenter = text(&of.vcenter),
            host = text(&of.host),
            console_type = of.console_type.map(|console| console.as_str()),
            protocol = of.protocol().map(|protocol| protocol.as_str()),
            address = of.target.map(tracing::field::display),
            client = of.client.as_deref().map(printable),
            gateway = &*session.gateway,
            worker = session.worker_id(),
            $message
        )
    }};
}

/// Writes a line about what became of a session.
pub(super) fn log(session: &Session, change: &SessionChange) {
    let ending = session.ending.as_deref();
    let reason = ending.map(|reason| reason.code.as_str());
    let ended_by = ending.and_then(|reason| reason.by.as_deref()).map(printable);
    match change {
        SessionChange::Opened { resumed } => {
            log_session!(session, "session opened"; resumed = *resumed,);
        }
        SessionChange::Ordered => {
            log_session!(session, "session ordered to end"; reason = reason, ended_by = ended_by,);
        }
        SessionChange::Ended { at, cause } => {
            let seconds = at.duration_since(session.opened_at).unwrap_or_default().as_secs();
            let traffic = &session.traffic;
            log_session!(
                session, "session ended"; cause = cause.as_str(), reason = reason,
                ended_by = ended_by, seconds = seconds,
                bytes_from_browser = traffic.from_browser, bytes_to_browser = traffic.to_browser,
            );
        }
    }
}
