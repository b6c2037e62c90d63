//! Who, which machine and from where, under one name in every record and in every log line.
//!
//! Text that others wrote is made printable here.

use crate::console_type::ConsoleType;
use crate::identity::Caller;
use crate::text::printable;
use crate::tokens::{Record, TokenHash};
use crate::vcenter::machine::VirtualMachine;
use serde::Serialize;
use uuid::Uuid;
use vncgate_api::Access;

/// What a token was issued for, and to whom.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenFields {
    /// The token's public identifier. It opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenHash>,
    /// To whom.
    #[serde(flatten)]
    pub caller: CallerFields,
    /// Instance UUID of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Uuid>,
    /// The machine's name when the token was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// `service_host` of the machine's vCenter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcenter: Option<String>,
    /// Name of the ESXi host when the token was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The type of console that the caller asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_type: Option<&'static str>,
    /// How the host serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// `view`, of a token that may view only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<&'static str>,
    /// `false`, of a token whose user may send no clipboard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clipboard: Option<bool>,
    /// What the caller wrote of whom the token is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl TokenFields {
    /// `record` is `None` if the token is unknown.
    pub fn of(token: Option<TokenHash>, record: Option<&Record>) -> Self {
        Self {
            token_id: token,
            caller: CallerFields::of_record(record),
            instance: record.map(|record| record.instance),
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
    pub fn of_request(caller: &Caller, instance: Uuid, console: ConsoleType) -> Self {
        Self {
            caller: CallerFields::of(caller),
            instance: Some(instance),
            console_type: Some(console.as_str()),
            ..Self::default()
        }
    }
}

/// A machine that a caller asks for something without a console.
#[derive(Clone, Debug, Serialize)]
pub struct MachineFields {
    /// Who.
    #[serde(flatten)]
    pub caller: CallerFields,
    /// Instance UUID of the machine.
    pub instance: Uuid,
    /// The machine's name.
    pub machine: String,
    /// `service_host` of the machine's vCenter.
    pub vcenter: String,
}

impl MachineFields {
    /// Of a machine of this vCenter.
    pub fn of(
        caller: &Caller,
        instance: Uuid,
        machine: &VirtualMachine,
        service_host: &str,
    ) -> Self {
        Self {
            caller: CallerFields::of(caller),
            instance,
            machine: printable(&machine.name),
            vcenter: service_host.to_owned(),
        }
    }
}

/// Who calls, or who asked for a token.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CallerFields {
    /// `api_token:NAME`, or `keystone:` and the identifier of the user.
    #[serde(rename = "caller", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name and domain of the Keystone user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Identifier of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

impl CallerFields {
    /// Of a caller of the console API.
    pub fn of(caller: &Caller) -> Self {
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

/// Who did something to a token or session of someone else.
#[derive(Clone, Debug, Serialize)]
pub struct Actor {
    /// `api_token:NAME`, or `keystone:` and the identifier of the user.
    pub by: String,
    /// Name and domain of the Keystone user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_user: Option<String>,
}

impl Actor {
    /// A caller of the console API.
    pub fn of(caller: &Caller) -> Self {
        Self { by: printable(&caller.id), by_user: caller.user().map(printable) }
    }
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OriginFields {
    /// The client's IP address as Envoy determined it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Envoy's `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
