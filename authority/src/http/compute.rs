//! The part of nova's compute API that opens consoles.

use super::fault::Fault;
use super::{App, NoBody, whole_body};
use crate::console::IssueRequest;
use crate::identity::Caller;
use crate::tokens::ConsoleType;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tracing::{info, warn};

/// The action of the seed, for machines that live in a vCenter.
const GET_VNC_CONSOLE_VMWARE: &str = "os-getVNCConsoleVmware";

/// Longest host or hypervisor name (nova's schemas: 255).
const NAME_LIMIT: usize = 255;

/// `POST /v2.1/servers/{id}/action`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/v2.1/servers/{id}/action", post(action))
}

async fn action(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let body = whole_body(body).await.map_err(|error| match error {
        NoBody::TooLarge => Fault::too_large(),
        NoBody::Incomplete => Fault::bad_request("Malformed request body"),
    })?;
    let (name, arguments) = parse_action(&body)?;
    if name != GET_VNC_CONSOLE_VMWARE {
        return Err(Fault::bad_request(format!("There is no such action: {name}")));
    }
    let arguments = VmwareConsole::parse(arguments)?;
    let instance = id.parse().map_err(|_| Fault::instance_not_found(&id))?;
    let request = IssueRequest {
        instance,
        console: arguments.console,
        hypervisor: arguments.hypervisor,
        host: arguments.host,
    };
    let url = issue(&app, &caller, &request).await?;
    Ok(Json(json!({"console": {"type": request.console.as_str(), "url": url}})))
}

/// Issues, and records that in log and metrics.
async fn issue(app: &App, caller: &Caller, request: &IssueRequest) -> Result<String, Fault> {
    let IssueRequest { instance, console, .. } = request;
    let caller = &caller.name;
    match app.consoles.issue(request).await {
        Ok(issued) => {
            let (host, port) = (issued.host, issued.port);
            info!(%instance, console = console.as_str(), caller, host, port, "console issued");
            app.metrics.issue(*console, "issued");
            Ok(issued.url)
        }
        Err(error) => {
            warn!(%instance, console = console.as_str(), caller, %error, "no console issued");
            let fault = Fault::of_issue(request, &error);
            app.metrics.issue(*console, fault.name());
            Err(fault)
        }
    }
}

/// An action's body is an object with one key, the action's name.
fn parse_action(body: &[u8]) -> Result<(String, Value), Fault> {
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        return Err(Fault::bad_request("Malformed request body"));
    };
    let mut entries = object.into_iter();
    match (entries.next(), entries.next()) {
        (Some(action), None) => Ok(action),
        _ => Err(Fault::bad_request("Malformed request body")),
    }
}

/// The arguments of `os-getVNCConsoleVmware`.
#[derive(Debug)]
struct VmwareConsole {
    console: ConsoleType,
    hypervisor: Option<String>,
    host: Option<String>,
}

impl VmwareConsole {
    fn parse(arguments: Value) -> Result<Self, Fault> {
        let mut properties = match arguments {
            Value::Object(properties) => properties,
            other => {
                let reason = format!("{other} is not of type 'object'");
                return Err(invalid_input(GET_VNC_CONSOLE_VMWARE, &other, &reason));
            }
        };
        let everything = Value::Object(properties.clone());
        let type_name = string(&mut properties, "type")?.ok_or_else(|| {
            invalid_input(GET_VNC_CONSOLE_VMWARE, &everything, "'type' is a required property")
        })?;
        // The seed's API reads `hypervisor_name`, its client sends `service_host`.
        let hypervisor = string(&mut properties, "hypervisor_name")?;
        let service_host = string(&mut properties, "service_host")?;
        let host = string(&mut properties, "host")?;
        if let Some(unknown) = properties.keys().next() {
            let reason =
                format!("Additional properties are not allowed ('{unknown}' was unexpected)");
            return Err(invalid_input(GET_VNC_CONSOLE_VMWARE, &everything, &reason));
        }
        let console = match type_name.as_str() {
            "novnc" => ConsoleType::Novnc,
            "xvpvnc" => ConsoleType::Xvpvnc,
            other => return Err(Fault::bad_request(format!("Invalid console type {other}"))),
        };
        Ok(Self { console, hypervisor: hypervisor.or(service_host), host })
    }
}

/// Takes a string out of an action's arguments. `null` counts as absent: the seed's client sends it.
fn string(properties: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Fault> {
    match properties.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= NAME_LIMIT => Ok(Some(text)),
        Some(long @ Value::String(_)) => {
            Err(invalid_input(key, &long, &format!("{long} is too long")))
        }
        Some(other) => Err(invalid_input(key, &other, &format!("{other} is not of type 'string'"))),
    }
}

/// The wording of nova's schema errors.
fn invalid_input(attribute: &str, value: &Value, reason: &str) -> Fault {
    Fault::bad_request(format!(
        "Invalid input for field/attribute {attribute}. Value: {value}. {reason}"
    ))
}

#[cfg(test)]
mod tests;
