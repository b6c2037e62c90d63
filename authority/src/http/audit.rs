//! Log lines that tell who opened what: their fields, under one name in every line.
//!
//! `docs/operations.md` has the table of lines and fields. Envoy's access log has the same names for the same things, so
//! that the two logs join by `session`, `request_id` and `instance`. So has the audit trail ([`crate::audit`]), which the
//! fields come from.

pub(super) use crate::audit::{CallerFields, MachineFields, OriginFields, TokenFields};

use crate::text::printable;
use axum::http::HeaderMap;
use vncgate_api::CheckRequest;

/// The address that a request of the public listener comes from. Envoy writes it in place of what the client sent, after
/// `xff_num_trusted_hops`; a request that did not pass through Envoy has no such header.
const CLIENT_ADDRESS: &str = "x-envoy-external-address";

/// The address that a request with these headers comes from.
pub(super) fn client_address(headers: &HeaderMap) -> Option<&str> {
    headers.get(CLIENT_ADDRESS)?.to_str().ok()
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
            token_id = token.token_id.map(tracing::field::display),
            caller = token.caller.id,
            user = token.caller.user,
            project = token.caller.project,
            instance = token.instance.map(tracing::field::display),
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

/// Writes a line about a machine: `log_machine!(LEVEL, MachineFields, OriginFields, MESSAGE; FIELD = VALUE, …)`.
macro_rules! log_machine {
    ($level:ident, $machine:expr, $origin:expr, $message:literal; $($field:tt)*) => {{
        let (machine, origin) = (&$machine, &$origin);
        tracing::$level!(
            $($field)*
            caller = machine.caller.id,
            user = machine.caller.user,
            project = machine.caller.project,
            instance = %machine.instance,
            machine = machine.machine,
            vcenter = machine.vcenter,
            client = origin.client,
            request_id = origin.request_id,
            $message
        )
    }};
}

pub(super) use log_machine;
pub(super) use log_token;
