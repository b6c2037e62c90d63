//! Changes that nova makes and a gateway of consoles does not: refused in the words of a nova whose policy allows them to
//! nobody. What else nova has no path for is not found, whatever the method.

use super::call::Call;
use super::microversion::Microversion;
use crate::http::app::App;
use crate::http::error::ApiError;
use axum::Router;
use axum::extract::Extension;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use std::sync::Arc;

/// A change of nova's: its method and path, nova's policy about it without the prefix of all, and the minor version from
/// which on nova has it.
struct Change(Method, &'static str, &'static str, u32);

/// What nova's policies begin with, unless it is `compute:`.
const PREFIX: &str = "os_compute_api:";

/// nova's changes of what this API shows. Actions of servers are `actions`'s.
const CHANGES: [Change; 45] = {
    use Change as C;
    const DELETE: Method = Method::DELETE;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    [
        C(POST, "/servers", "servers:create", 1),
        C(PUT, "/servers/{id}", "servers:update", 1),
        C(DELETE, "/servers/{id}", "servers:delete", 1),
        C(POST, "/servers/{id}/metadata", "server-metadata:create", 1),
        C(PUT, "/servers/{id}/metadata", "server-metadata:update_all", 1),
        C(PUT, "/servers/{id}/metadata/{key}", "server-metadata:update", 1),
        C(DELETE, "/servers/{id}/metadata/{key}", "server-metadata:delete", 1),
        C(DELETE, "/servers/{id}/migrations/{migration}", "servers:migrations:delete", 24),
        C(
            POST,
            "/servers/{id}/migrations/{migration}/action",
            "servers:migrations:force_complete",
            22,
        ),
        C(POST, "/servers/{id}/os-interface", "os-attach-interfaces:create", 1),
        C(DELETE, "/servers/{id}/os-interface/{port}", "os-attach-interfaces:delete", 1),
        C(DELETE, "/servers/{id}/os-server-password", "os-server-password:clear", 1),
        C(POST, "/servers/{id}/os-volume_attachments", "os-volumes-attachments:create", 1),
        C(PUT, "/servers/{id}/os-volume_attachments/{volume}", "os-volumes-attachments:update", 1),
        C(
            DELETE,
            "/servers/{id}/os-volume_attachments/{volume}",
            "os-volumes-attachments:delete",
            1,
        ),
        C(POST, "/servers/{id}/shares", "os-server-shares:create", 97),
        C(DELETE, "/servers/{id}/shares/{share}", "os-server-shares:delete", 97),
        C(PUT, "/servers/{id}/tags", "os-server-tags:update_all", 26),
        C(DELETE, "/servers/{id}/tags", "os-server-tags:delete_all", 26),
        C(PUT, "/servers/{id}/tags/{tag}", "os-server-tags:update", 26),
        C(DELETE, "/servers/{id}/tags/{tag}", "os-server-tags:delete", 26),
        C(POST, "/flavors", "os-flavor-manage:create", 1),
        C(PUT, "/flavors/{id}", "os-flavor-manage:update", 55),
        C(DELETE, "/flavors/{id}", "os-flavor-manage:delete", 1),
        C(POST, "/flavors/{id}/os-extra_specs", "os-flavor-extra-specs:create", 1),
        C(PUT, "/flavors/{id}/os-extra_specs/{key}", "os-flavor-extra-specs:update", 1),
        C(DELETE, "/flavors/{id}/os-extra_specs/{key}", "os-flavor-extra-specs:delete", 1),
        C(POST, "/os-aggregates", "os-aggregates:create", 1),
        C(PUT, "/os-aggregates/{id}", "os-aggregates:update", 1),
        C(DELETE, "/os-aggregates/{id}", "os-aggregates:delete", 1),
        C(POST, "/os-assisted-volume-snapshots", "os-assisted-volume-snapshots:create", 1),
        C(DELETE, "/os-assisted-volume-snapshots/{id}", "os-assisted-volume-snapshots:delete", 1),
        C(POST, "/os-keypairs", "os-keypairs:create", 1),
        C(DELETE, "/os-keypairs/{name}", "os-keypairs:delete", 1),
        C(PUT, "/os-quota-class-sets/{class}", "os-quota-class-sets:update", 1),
        C(PUT, "/os-quota-sets/{project}", "os-quota-sets:update", 1),
        C(DELETE, "/os-quota-sets/{project}", "os-quota-sets:delete", 1),
        C(POST, "/os-server-external-events", "os-server-external-events:create", 1),
        C(POST, "/os-server-groups", "os-server-groups:create", 1),
        C(DELETE, "/os-server-groups/{id}", "os-server-groups:delete", 1),
        C(PUT, "/os-services/{id}", "os-services:update", 1),
        C(DELETE, "/os-services/{id}", "os-services:delete", 1),
        C(POST, "/os-aggregates/{id}/images", "compute:aggregates:images", 81),
        C(POST, "/os-aggregates/{id}/action", "os-aggregates:set_metadata", 1),
        C(POST, "/flavors/{id}/action", "os-flavor-access:add_tenant_access", 1),
    ]
};

/// Refuses the changes, below the routes of what there is.
pub(super) fn routes() -> Router<Arc<App>> {
    CHANGES.into_iter().fold(Router::new(), |router, Change(method, path, rule, since)| {
        let refuse = async move |Extension(call): Extension<Call>| {
            if call.version < Microversion::new(since) {
                return ApiError::not_found();
            }
            let prefix = if rule.starts_with("compute:") { "" } else { PREFIX };
            ApiError::forbidden(&format!("{prefix}{rule}"))
        };
        let method = MethodFilter::try_from(method).expect("a method that axum routes");
        router.route(path, on(method, refuse))
    })
}

/// Answers requests for which nova has no path, or not with this method.
pub(super) async fn not_found() -> ApiError {
    ApiError::not_found()
}
