//! Log lines that tell who opened what: their fields, under one name in every line.
//!
//! `docs/operations.md` has the table of lines and fields. Envoy's access log has the same names for the same things, so
//! that the two logs join by `session`, `request_id` and `instance`. Text that others wrote is made printable here.

use crate::console_type::ConsoleType;
use crate::identity::Caller;
use crate::power::PowerChange;
use crate::text::printable;
use crate::tokens::{Record, TokenHash};
use crate::vcenter::machine::VirtualMachine;
use axum::http::HeaderMap;
use tracing::field::{DisplayValue, display};
use uuid::Uuid;
use vncgate_api::{Access, CheckRequest};

/// The address that a request of the public listener comes from. Envoy writes it in place of what the client sent, after
/// `xff_num_trusted_hops`; a request that did not pass through Envoy has no such header.
const CLIENT_ADDRESS: &str = "x-envoy-external-address";

/// The address that a request with these headers comes from.
pub(super) fn client_address(headers: &HeaderMap) -> Option<&str> {
    headers.get(CLIENT_ADDRESS)?.to_str().ok()
}

/// What a token was issued for, and to whom.
pub(super) struct TokenFields {
    pub(super) token_id: Option<DisplayValue<TokenHash>>,
    pub(super) caller: CallerFields,
    pub(super) instance: Option<DisplayValue<Uuid>>,
    pub(super) machine: Option<String>,
    pub(super) vcenter: Option<String>,
    pub(super) host: Option<String>,
    pub(super) console_type: Option<&'static str>,
    pub(super) protocol: Option<&'static str>,
    /// `view`, of a token that may view only.
    pub(super) access: Option<&'static str>,
    /// `false`, of a token whose user may send no clipboard.
    pub(super) clipboard: Option<bool>,
    pub(super) label: Option<String>,
}

impl TokenFields {
    /// `record` is `None` if the token is unknown.
    pub(super) fn of(token: Option<TokenHash>, record: Option<&Record>) -> Self {
        Self {
            token_id: token.map(display),
            caller: CallerFields::of_record(record),
            instance: record.map(|record| display(record.instance)),
            machine: record.and_then(|record| record.machine_name.as_deref()).map(printable),
            vcenter: record.map(|record| record.service_host.clone()),
            host: record.map(|record| printable(&record.host)),
            console_type: record.map(|record| record.console.as_str()),
            protocol: record.map(|record| record.protocol().as_str()),
            access: record
                .map(|record| record.access)
                .filter(|access| !access.is_control())
                .map(Access::as_str),
            clipboard: record.map(|record| record.clipboard).filter(|clipboard| !clipboard),
            label: record.and_then(|record| record.label.as_deref()).map(printable),
        }
    }

    /// Of a token that was not issued.
    pub(super) fn of_request(caller: &Caller, instance: Uuid, console: ConsoleType) -> Self {
        Self {
            caller: CallerFields::of(caller),
            instance: Some(display(instance)),
            console_type: Some(console.as_str()),
            ..Self::of(None, None)
        }
    }
}

/// Who calls, or who asked for a token.
pub(super) struct CallerFields {
    /// `api_token:NAME`, or `keystone:` and the identifier of the user.
    pub(super) id: Option<String>,
    /// Name and domain of the Keystone user.
    pub(super) user: Option<String>,
    /// Identifier of the project.
    pub(super) project: Option<String>,
}

impl CallerFields {
    pub(super) fn of(caller: &Caller) -> Self {
        Self {
            id: Some(printable(&caller.id)),
            user: caller.user().map(printable),
            project: caller.project.as_deref().map(printable),
        }
    }

    /// Of the caller to whom a token was issued.
    fn of_record(record: Option<&Record>) -> Self {
        // Versions that did not know their callers wrote an empty one.
        let id = record.map(|record| printable(&record.caller)).filter(|id| !id.is_empty());
        Self {
            id,
            user: record.and_then(|record| record.user.as_deref()).map(printable),
            project: record.and_then(|record| record.project.as_deref()).map(printable),
        }
    }
}

/// What of whose machine is to be changed, and by whom.
pub(super) struct PowerFields {
    pub(super) caller: CallerFields,
    pub(super) instance: Uuid,
    pub(super) machine: String,
    pub(super) vcenter: String,
    pub(super) change: &'static str,
}

impl PowerFields {
    pub(super) fn of(
        caller: &Caller,
        instance: Uuid,
        machine: &VirtualMachine,
        service_host: &str,
        change: PowerChange,
    ) -> Self {
        Self {
            caller: CallerFields::of(caller),
            instance,
            machine: printable(&machine.name),
            vcenter: service_host.to_owned(),
            change: change.name(),
        }
    }
}

/// Where a request comes from.
pub(super) struct OriginFields {
    /// The client's IP address as Envoy determined it.
    pub(super) client: Option<String>,
    /// Envoy's `x-request-id`.
    pub(super) request_id: Option<String>,
}

impl OriginFields {
    /// Of a request of the public listener.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        Self {
            client: client_address(headers).map(printable),
            request_id: request_id.map(printable),
        }
    }

    /// Of a request of the filter's.
    pub(super) fn of_check(request: &CheckRequest<'_>) -> Self {
        let said = |text: &str| (!text.is_empty()).then(|| printable(text));
        Self { client: said(&request.client_address), request_id: said(&request.request_id) }
    }
}

/// Writes a line about a token: `log_token!(LEVEL, TokenFields, OriginFields, MESSAGE; FIELD = VALUE, …)`.
macro_rules! log_token {
    ($level:ident, $token:expr, $origin:expr, $message:literal; $($field:tt)*) => {{
        let (token, origin) = (&$token, &$origin);
        tracing::$level!(
            $($field)*
            token_id = token.token_id,
            caller = token.caller.id,
            user = token.caller.user,
            project = token.caller.project,
            instance = token.instance,
            machine = token.machine,
            vcenter = token.vcenter,
            host = token.host,
            console_type = token.console_type,
            protocol = token.protocol,
            access = token.access,
            clipboard = token.clipboard,
            label = token.label,
            client = origin.client,
            request_id = origin.request_id,
            $message
        )
    }};
}

/// Writes a line about a change of a machine's power: `log_power!(LEVEL, PowerFields, OriginFields, MESSAGE; FIELD = VALUE, …)`.
macro_rules! log_power {
    ($level:ident, $power:expr, $origin:expr, $message:literal; $($field:tt)*) => {{
        let (power, origin) = (&$power, &$origin);
        tracing::$level!(
            $($field)*
            change = power.change,
            caller = power.caller.id,
            user = power.caller.user,
            project = power.caller.project,
            instance = %power.instance,
            machine = power.machine,
            vcenter = power.vcenter,
            client = origin.client,
            request_id = origin.request_id,
            $message
        )
    }};
}

pub(super) use log_power;
pub(super) use log_token;
