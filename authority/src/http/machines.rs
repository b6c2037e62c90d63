//! `GET /v1/vms`: machines by name, for people and portals that do not have the instance UUID.

use super::app::App;
use super::error::ApiError;
use crate::console_type::Protocol;
use crate::identity::Caller;
use crate::identity::policy::Right;
use crate::vcenter::machine::{PowerState, VirtualMachine};
use crate::vcenter::vcenters::LocatedMachine;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// `GET /v1/vms?name=NAME`. Reads the inventory of every vCenter.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/vms", get(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// The exact name. Without it every machine is listed.
    name: Option<String>,
}

#[derive(Serialize)]
struct Listing {
    vms: Vec<ListedMachine>,
    /// Service hosts of the vCenters that did not response: their machines are not in the list.
    unavailable: Vec<String>,
}

#[derive(Serialize)]
struct ListedMachine {
    name: String,
    instance_uuid: Option<Uuid>,
    power_state: PowerState,
    host: Option<String>,
    /// The protocol of the console that could be opened, whether or not the machine runs now.
    console: Option<Protocol>,
}

impl From<LocatedMachine<'_>> for ListedMachine {
    fn from(LocatedMachine { vcenter, machine, .. }: LocatedMachine<'_>) -> Self {
        Self {
            console: vcenter.consoles().protocol(&machine),
            name: machine.name.clone(),
            instance_uuid: machine.instance,
            power_state: machine.power_state,
            host: machine.host.as_ref().map(|host| host.name.clone()),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Listing>, ApiError> {
    let Query(Filter { name }) =
        filter.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let scope = app.authorize(&caller, Right::ViewConsole, "open_console")?;
    let wanted =
        move |machine: &VirtualMachine| name.as_ref().is_none_or(|name| *name == machine.name);
    let (located, failed) = app.consoles.vcenters().list(scope, wanted).await;
    if let ([], [(_, error), ..]) = (&located[..], &failed[..]) {
        return Err(ApiError::of_vcenter(error));
    }
    let unavailable = failed.into_iter().map(|(service_host, _)| service_host).collect();
    let vms = located.into_iter().map(ListedMachine::from).collect();
    Ok(Json(Listing { vms, unavailable }))
}

#[cfg(test)]
mod tests {
    use crate::http::public;
    use crate::http::testing::{API_TOKEN, app, send};
    use axum::body::Body;
    use axum::http::{Request, StatusCode};

    async fn status(token: &str, query: &str) -> StatusCode {
        let request = Request::get(format!("/v1/vms{query}")).header("X-Auth-Token", token);
        send(public(app(), None), request.body(Body::empty()).unwrap()).await.status
    }

    #[tokio::test]
    async fn the_list_is_for_known_callers_who_ask_properly() {
        assert_eq!(status("wrong", "").await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(API_TOKEN, "?colour=red").await, StatusCode::BAD_REQUEST);
        assert_eq!(status(API_TOKEN, "?name=web-1").await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
