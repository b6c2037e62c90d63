//! `EventManager`: events that people see in vSphere beside an object.

use super::envelope::call;
use quick_xml::escape::escape;

/// `EventManager.LogUserEvent`: a `GeneralUserEvent` on an object, which needs the privilege `Global.LogEvent` on it. The
/// reply is read by [`super::read_empty`].
pub fn log_user_event(event_manager: &str, kind: &str, entity: &str, message: &str) -> String {
    let arguments = format!(
        "<entity type=\"{}\">{}</entity><msg>{}</msg>",
        escape(kind),
        escape(entity),
        escape(message)
    );
    call("LogUserEvent", "EventManager", event_manager, &arguments)
}
