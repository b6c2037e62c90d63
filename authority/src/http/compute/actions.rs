//! `POST /servers/{id}/action`: the action's name decides who carries it out.

use super::call::{Action, Call, json_body};
use super::microversion::Microversion;
use super::{consoles, power};
use crate::http::app::App;
use crate::http::error::ApiError;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// nova's actions that a gateway of consoles does not carry out, with those of older versions.
const UNSUPPORTED: [&str; 34] = [
    "addFixedIp",
    "addFloatingIp",
    "addSecurityGroup",
    "changePassword",
    "confirmResize",
    "createBackup",
    "createImage",
    "evacuate",
    "forceDelete",
    "injectNetworkInfo",
    "lock",
    "migrate",
    "os-getConsoleOutput",
    "os-migrateLive",
    "os-resetState",
    "pause",
    "rebuild",
    "removeFixedIp",
    "removeFloatingIp",
    "removeSecurityGroup",
    "rescue",
    "resetNetwork",
    "resize",
    "restore",
    "resume",
    "revertResize",
    "shelve",
    "shelveOffload",
    "suspend",
    "trigger_crash_dump",
    "unlock",
    "unpause",
    "unrescue",
    "unshelve",
];

/// From this version on servers get their addresses from neutron alone.
const WITHOUT_ADDRESSES: Microversion = Microversion::new(44);
/// From this version on nova dumps the memory of crashed servers.
const CRASH_DUMPS: Microversion = Microversion::new(17);

#[derive(Deserialize)]
pub(super) struct ServerPath {
    id: String,
}

/// `POST /servers/{id}/action`.
pub(super) async fn act(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(ServerPath { id }): Path<ServerPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (name, arguments) = parse_action(json_body(&headers, body).await?)?;
    let action = Action { server: id, name, arguments };
    match action.name.as_str() {
        "os-start" | "os-stop" | "reboot" => power::change(&app, &call, &headers, action).await,
        name if UNSUPPORTED.contains(&name) => Err(match is_known(name, call.version) {
            true => ApiError::unsupported(),
            false => ApiError::not_found(),
        }),
        _ => consoles::action(&app, &call, &headers, action).await,
    }
}

/// Whether nova has one of these actions in a version.
fn is_known(name: &str, version: Microversion) -> bool {
    match name {
        "addFixedIp" | "addFloatingIp" | "removeFixedIp" | "removeFloatingIp" => {
            version < WITHOUT_ADDRESSES
        }
        "trigger_crash_dump" => version >= CRASH_DUMPS,
        _ => true,
    }
}

/// An action's body is an object with one key, the action's name.
fn parse_action(body: Value) -> Result<(String, Value), ApiError> {
    let malformed = || ApiError::bad_request("Malformed request body");
    let Value::Object(object) = body else { return Err(malformed()) };
    let mut entries = object.into_iter();
    match (entries.next(), entries.next()) {
        (Some(action), None) => Ok(action),
        _ => Err(malformed()),
    }
}
