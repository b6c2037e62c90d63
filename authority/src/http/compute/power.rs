//! nova's actions that switch a machine on and off: `os-start`, `os-stop` and `reboot`.

use super::call::{Action, Call};
use super::schema::Object;
use crate::http::app::App;
use crate::http::audit::{OriginFields, PowerFields, log_power};
use crate::http::error::ApiError;
use crate::identity::policy::Right;
use crate::power::PowerChange;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// The types of reboot in nova's schema, in its order.
const REBOOTS: [&str; 6] = ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"];

/// Begins the change, and records it in the log.
pub(super) async fn change(
    app: &Arc<App>,
    call: &Call,
    headers: &HeaderMap,
    action: Action,
) -> Result<Response, ApiError> {
    let Action { server, name, arguments } = action;
    let change = match name.as_str() {
        "os-start" => PowerChange::Start,
        "os-stop" => PowerChange::Stop,
        _ => reboot(arguments)?,
    };
    let rule = format!("os_compute_api:servers:{}", change.action());
    let scope = app.authorize(&call.caller, Right::Power, &rule)?;
    let instance: Uuid = server.parse().map_err(|_| ApiError::instance_not_found(&server))?;
    let located = app.consoles.vcenters().locate(instance, None, scope).await;
    let located = located.map_err(|error| ApiError::of_location(&server, &error))?;
    let (vcenter, machine) = (located.vcenter, &located.machine);
    let fields = PowerFields::of(&call.caller, instance, machine, vcenter.service_host(), change);
    let origin = OriginFields::of(headers);
    match app.power.change(vcenter, instance, machine, change).await {
        Ok(()) => {
            log_power!(info, fields, origin, "power change accepted";);
            Ok(StatusCode::ACCEPTED.into_response())
        }
        Err(error) => {
            let refused = ApiError::of_power(&server, change, &error);
            log_power!(
                warn, fields, origin, "power change refused"; refusal = refused.name(), %error,
            );
            Err(refused)
        }
    }
}

fn reboot(arguments: Value) -> Result<PowerChange, ApiError> {
    let mut arguments = Object::new(Some("reboot"), arguments)?;
    let kind = arguments.choice("type", &REBOOTS)?;
    let kind = arguments.require("type", kind)?;
    arguments.end()?;
    match kind.eq_ignore_ascii_case("hard") {
        true => Ok(PowerChange::RebootHard),
        false => Ok(PowerChange::RebootSoft),
    }
}
