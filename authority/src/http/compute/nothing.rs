//! nova's lists of what a vCenter's machines do not have: key pairs, server groups, attached volumes and so on. They are
//! empty, so that clients that show them beside machines show nothing in place of an error.

use super::call::Call;
use super::microversion::Microversion;
use super::parameters::Parameters;
use super::projects::is_admin;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::identity::policy::Right;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// One of nova's lists.
struct List {
    path: &'static str,
    /// The list's name in the document.
    name: &'static str,
    /// nova's policy about it.
    rule: &'static str,
    /// Who may see it.
    readers: Readers,
    /// The minor version from which on nova has it.
    since: u32,
    /// The minor version from which on nova has it no longer.
    until: u32,
    /// The minor version from which on parameters that nova does not know are refused.
    strict: u32,
    /// The parameters that nova knows then.
    parameters: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// Who sees machines.
    Everybody,
    /// nova's administrators.
    Administrators,
}

/// A list that nova has in every version.
const ALWAYS: List = List {
    path: "",
    name: "",
    rule: "",
    readers: Readers::Everybody,
    since: 1,
    until: u32::MAX,
    strict: 102,
    parameters: &[],
};

/// Lists of the whole service.
const LISTS: [List; 8] = [
    List {
        path: "/os-aggregates",
        name: "aggregates",
        rule: "os_compute_api:os-aggregates:index",
        readers: Readers::Administrators,
        ..ALWAYS
    },
    List {
        path: "/os-availability-zone",
        name: "availabilityZoneInfo",
        rule: "os_compute_api:os-availability-zone:list",
        ..ALWAYS
    },
    List {
        path: "/os-availability-zone/detail",
        name: "availabilityZoneInfo",
        rule: "os_compute_api:os-availability-zone:detail",
        readers: Readers::Administrators,
        ..ALWAYS
    },
    List {
        path: "/os-hypervisors",
        name: "hypervisors",
        rule: "os_compute_api:os-hypervisors:list",
        readers: Readers::Administrators,
        strict: 53,
        parameters: &["limit", "marker", "hypervisor_hostname_pattern", "with_servers"],
        ..ALWAYS
    },
    List {
        path: "/os-hypervisors/detail",
        name: "hypervisors",
        rule: "os_compute_api:os-hypervisors:list-detail",
        readers: Readers::Administrators,
        strict: 53,
        parameters: &["limit", "marker", "hypervisor_hostname_pattern", "with_servers"],
        ..ALWAYS
    },
    List {
        path: "/os-keypairs",
        name: "keypairs",
        rule: "os_compute_api:os-keypairs:index",
        strict: 75,
        parameters: &["user_id", "limit", "marker"],
        ..ALWAYS
    },
    List {
        path: "/os-server-groups",
        name: "server_groups",
        rule: "os_compute_api:os-server-groups:index",
        strict: 75,
        parameters: &["all_projects", "limit", "offset"],
        ..ALWAYS
    },
    List {
        path: "/os-services",
        name: "services",
        rule: "os_compute_api:os-services:list",
        readers: Readers::Administrators,
        strict: 75,
        parameters: &["host", "binary"],
        ..ALWAYS
    },
];

/// Lists of one server, below its path.
const LISTS_OF_SERVER: [List; 5] = [
    List {
        path: "/os-instance-actions",
        name: "instanceActions",
        rule: "os_compute_api:os-instance-actions:list",
        strict: 58,
        parameters: &["limit", "marker", "changes-since", "changes-before"],
        ..ALWAYS
    },
    List {
        path: "/os-interface",
        name: "interfaceAttachments",
        rule: "os_compute_api:os-attach-interfaces:list",
        ..ALWAYS
    },
    List {
        path: "/os-security-groups",
        name: "security_groups",
        rule: "os_compute_api:os-security-groups:list",
        ..ALWAYS
    },
    List {
        path: "/os-volume_attachments",
        name: "volumeAttachments",
        rule: "os_compute_api:os-volumes-attachments:index",
        strict: 75,
        parameters: &["limit", "offset"],
        ..ALWAYS
    },
    List {
        path: "/tags",
        name: "tags",
        rule: "os_compute_api:os-server-tags:index",
        since: 26,
        ..ALWAYS
    },
];

/// The routes of all lists.
pub(super) fn routes() -> Router<Arc<App>> {
    let router =
        LISTS.iter().fold(Router::new(), |router, list| router.route(list.path, whole(list)));
    LISTS_OF_SERVER.iter().fold(router, |router, list| {
        router.route(&format!("/servers/{{id}}{}", list.path), of_server(list))
    })
}

fn whole(list: &'static List) -> MethodRouter<Arc<App>> {
    get(
        move |State(app): State<Arc<App>>, Extension(call): Extension<Call>, RawQuery(query)| async move {
            list.answer(&app, &call, query.as_deref())
        },
    )
}

#[derive(Deserialize)]
struct ServerPath {
    id: String,
}

fn of_server(list: &'static List) -> MethodRouter<Arc<App>> {
    get(
        move |State(app): State<Arc<App>>,
              Extension(call): Extension<Call>,
              Path(ServerPath { id }): Path<ServerPath>,
              RawQuery(query)| async move {
            let document = list.answer(&app, &call, query.as_deref())?;
            let instance: Uuid = id.parse().map_err(|_| ApiError::instance_not_found(&id))?;
            let scope = app.policy.scope(&call.caller);
            let located = app.consoles.vcenters().locate_to_show(instance, scope).await;
            located.map_err(|error| ApiError::of_location(&id, &error))?;
            Ok::<_, ApiError>(document)
        },
    )
}

impl List {
    fn answer(&self, app: &App, call: &Call, query: Option<&str>) -> Result<Json<Value>, ApiError> {
        let version = call.version;
        if !(Microversion::new(self.since)..Microversion::new(self.until)).contains(&version) {
            return Err(ApiError::not_found());
        }
        app.authorize(&call.caller, Right::ViewConsole, self.rule)?;
        if self.readers == Readers::Administrators && !is_admin(app, call) {
            return Err(ApiError::forbidden(self.rule));
        }
        let parameters = Parameters::parse(query)?;
        let strict = Microversion::new(self.strict);
        parameters.only(|name| self.parameters.contains(&name), version, strict)?;
        Ok(Json(json!({self.name: []})))
    }
}
