//! Records of what becomes of sessions, from the register.

use super::event::Event;
use super::fields::{CallerFields, OriginFields, TokenFields};
use super::trail::AuditTrail;
use crate::sessions::{Description, SessionChange, SessionEvent, SessionEvents};
use crate::text::printable;
use humantime::format_rfc3339_millis;
use tokio::sync::mpsc::UnboundedReceiver;
use vncgate_api::Access;

impl AuditTrail {
    /// Makes a record of each opening and each end that this authority was told of: of those that share a store, one was.
    /// Returns when the register ends.
    pub async fn follow(&self, mut events: UnboundedReceiver<SessionEvents>) {
        while let Some(events) = events.recv().await {
            for event in events.iter().filter(|event| event.reported_here) {
                self.record_any(|| event_of(event));
            }
        }
    }
}

fn event_of(SessionEvent { session, change, .. }: &SessionEvent) -> Option<Event> {
    let (id, gateway) = (session.id, printable(&session.gateway));
    let address = session.description.target;
    let (token, origin) = (token_fields(&session.description), origin_fields(&session.description));
    let opened_at = format_rfc3339_millis(session.opened_at).to_string();
    match change {
        SessionChange::Opened { resumed: true } => None,
        SessionChange::Opened { resumed: false } => {
            Some(Event::SessionOpened { session: id, token, origin, address, gateway, opened_at })
        }
        SessionChange::Ordered => {
            let ending = session.ending.as_deref()?;
            Some(Event::SessionEndOrdered {
                session: id,
                token,
                by: printable(ending.by.as_ref()?),
                cause: ending.code.as_str(),
                reason: printable(&ending.words),
            })
        }
        SessionChange::Ended { at, cause } => {
            // An order that crossed an end of another cause did not cause it.
            let ending = session.ending.as_deref().filter(|_| cause == ORDERED);
            let duration = at.duration_since(session.opened_at).unwrap_or_default();
            Some(Event::SessionEnded {
                session: id,
                token,
                origin,
                address,
                gateway,
                opened_at,
                ended_at: format_rfc3339_millis(*at).to_string(),
                duration_seconds: (duration.as_secs_f64() * 1000.0).round() / 1000.0,
                bytes_from_browser: session.traffic.from_browser,
                bytes_to_browser: session.traffic.to_browser,
                last_message_at: session.last_message_at().map(rfc3339),
                last_input_at: session.last_input_at().map(rfc3339),
                cause: ending.map_or(cause.as_str(), |ending| ending.code.as_str()).to_owned(),
                reason: ending.map(|ending| printable(&ending.words)),
                by: ending.and_then(|ending| ending.by.as_deref()).map(printable),
            })
        }
    }
}

/// The cause of an end that the authority has ordered.
pub(super) const ORDERED: &str = "ordered";

fn rfc3339(time: std::time::SystemTime) -> String {
    format_rfc3339_millis(time).to_string()
}

/// A description that could not be read has nothing to tell.
fn token_fields(description: &Description) -> TokenFields {
    let text = |text: &str| Some(printable(text)).filter(|text| !text.is_empty());
    TokenFields {
        token_id: description.token_id,
        caller: CallerFields {
            id: text(&description.caller),
            user: description.user.as_deref().and_then(text),
            project: description.project.as_deref().and_then(text),
        },
        instance: Some(description.instance).filter(|instance| !instance.is_nil()),
        machine: description.machine.as_deref().and_then(text),
        vcenter: text(&description.vcenter),
        host: text(&description.host),
        console_type: description.console_type.map(|console| console.as_str()),
        protocol: description.protocol().map(|protocol| protocol.as_str()),
        access: Some(description.access).filter(|access| !access.is_control()).map(Access::as_str),
        clipboard: description.no_clipboard.then_some(false),
        label: description.label.as_deref().and_then(text),
    }
}

fn origin_fields(Description { client, .. }: &Description) -> OriginFields {
    OriginFields { client: client.as_deref().map(printable), request_id: None }
}
