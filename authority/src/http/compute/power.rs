//! nova's actions that switch a machine on and off: `os-start`, `os-stop` and `reboot`.

use super::call::{Action, Call};
use super::schema::Object;
use crate::audit::Event;
use crate::http::app::App;
use crate::http::audit::{MachineFields, OriginFields, log_machine};
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

/// Begins the change, and records it in the log and the audit trail.
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
    let fields = MachineFields::of(&call.caller, instance, machine, vcenter.service_host());
    let (origin, change_name) = (OriginFields::of(headers), change.name());
    let requested = || {
        let (machine, origin) = (fields.clone(), origin.clone());
        Event::PowerRequested { machine, origin, change: change_name }
    };
    app.audit.record_first(requested).await.map_err(|error| {
        let refused = ApiError::not_recorded();
        log_machine!(
            warn, fields, origin, "power change refused";
            change = change_name, refusal = refused.name(), %error,
        );
        refused
    })?;
    match app.power.change(vcenter, instance, machine, change).await {
        Ok(()) => {
            log_machine!(info, fields, origin, "power change accepted"; change = change_name,);
            Ok(StatusCode::ACCEPTED.into_response())
        }
        Err(error) => {
            let refused = ApiError::of_power(&server, change, &error);
            let refusal = refused.name();
            log_machine!(
                warn, fields, origin, "power change refused"; change = change_name, refusal, %error,
            );
            let (machine, error) = (fields, error.to_string());
            app.audit.record(|| Event::PowerRefused {
                machine,
                origin,
                change: change_name,
                refusal,
                error,
            });
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
