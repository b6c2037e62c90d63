//! nova's compute API, as much of it as opens consoles and finds the machines for it.
//!
//! A request is first known by its caller's token and by its [`microversion`]; then it is one of these:
//!
//! - [`consoles`]: a console of a machine (the seed's action, nova's older action, nova's `remote-consoles`),
//!   and what a console token stands for;
//! - [`servers`]: machines by instance UUID or name, each shown as nova shows a server ([`document`]);
//! - [`versions`]: what the API can do, for clients that ask before they talk.
//!
//! Status, shape and words of errors are nova's, and so is the strictness about what is not foreseen
//! ([`schema`]).

mod consoles;
mod document;
mod link;
mod microversion;
mod schema;
mod servers;
mod versions;

use super::fault::Fault;
use super::{App, NoBody, whole_body};
use crate::identity::Caller;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use link::BaseUrl;
use microversion::Microversion;
use serde_json::Value;
use std::sync::Arc;

/// The media types of a body, all of which are JSON. nova takes `text/plain` for what a client writes that
/// sets nothing.
const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/vnd.openstack.compute+json", "text/plain"];

/// `/` and all below `/v2.1`. Each path also stands below the caller's project, `/v2.1/PROJECT`, as older
/// service catalogs have it.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let calls = Router::new()
        .route("/servers", get(servers::index))
        .route("/servers/detail", get(servers::detail))
        .route("/servers/{id}", get(servers::show))
        .route("/servers/{id}/action", post(consoles::action))
        .route("/servers/{id}/remote-consoles", post(consoles::create))
        .route("/os-console-auth-tokens/{token}", get(consoles::show_token))
        .layer(from_fn_with_state(Arc::clone(app), enter));
    Router::new()
        .route("/", get(versions::all))
        .route("/v2.1", get(versions::current))
        .route("/v2.1/", get(versions::current))
        .nest("/v2.1/{project_id}", calls.clone())
        .nest("/v2.1", calls)
}

/// What is known of a request before it is looked at.
#[derive(Clone)]
struct Call {
    caller: Caller,
    version: Microversion,
    base: BaseUrl,
    /// The project in the path, which is the caller's.
    project: Option<String>,
}

impl Call {
    /// The URL of a path below the API's version.
    fn link(&self, path: &str) -> String {
        self.base.join(&match &self.project {
            Some(project) => format!("/v2.1/{project}{path}"),
            None => format!("/v2.1{path}"),
        })
    }

    /// The URL of a path that is good in any version of the API.
    fn bookmark(&self, path: &str) -> String {
        self.base.join(&match &self.project {
            Some(project) => format!("/{project}{path}"),
            None => path.to_owned(),
        })
    }
}

/// Lets a request in that is from a known caller and in a version that there is.
async fn enter(
    State(_): State<Arc<App>>,
    caller: Caller,
    path: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let version = match Microversion::negotiate(request.headers()) {
        Ok(version) => version,
        Err(refused) => return refused.into_response(),
    };
    let project = path.iter().find(|(name, _)| *name == "project_id");
    let project = project.map(|(_, project)| project.to_owned());
    let mut response = match check_project(project.as_deref(), &caller) {
        Ok(()) => {
            let base = BaseUrl::of(request.headers());
            request.extensions_mut().insert(Call { caller, version, base, project });
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    };
    version.announce(response.headers_mut());
    response
}

fn check_project(in_path: Option<&str>, caller: &Caller) -> Result<(), Fault> {
    let Some(in_path) = in_path else { return Ok(()) };
    // nova takes nothing else for a project, and so finds no such path.
    if !in_path.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
        return Err(Fault::not_found());
    }
    match &caller.project {
        Some(own) if own == in_path => Ok(()),
        own => Err(Fault::bad_request(format!(
            "Malformed request URL: URL's project_id '{in_path}' doesn't match Context's \
             project_id '{}'",
            own.as_deref().unwrap_or("None")
        ))),
    }
}

/// The JSON that a request carries.
async fn json_body(headers: &HeaderMap, body: Body) -> Result<Value, Fault> {
    if let Some(content_type) = headers.get(CONTENT_TYPE) {
        let essence = content_type.to_str().unwrap_or_default().split(';').next();
        let essence = essence.unwrap_or_default().trim();
        if !MEDIA_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
            return Err(Fault::unsupported_media_type());
        }
    }
    let malformed = || Fault::bad_request("Malformed request body");
    let body = whole_body(body).await.map_err(|error| match error {
        NoBody::TooLarge => Fault::too_large(),
        NoBody::Incomplete => malformed(),
    })?;
    serde_json::from_slice(&body).map_err(|_| malformed())
}

#[cfg(test)]
mod tests;
