//! What all requests of the compute API have in common: caller, version, project, JSON body.

use super::link::BaseUrl;
use super::microversion::Microversion;
use crate::http::app::App;
use crate::http::body::{RequestBodyError, read_body};
use crate::http::error::ApiError;
use crate::identity::Caller;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::Arc;

/// The accepted media types of a body, all of which are JSON. nova accepts `text/plain` for clients that set no
/// content type.
const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/vnd.openstack.compute+json", "text/plain"];

/// A request whose caller and version are known.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) version: Microversion,
    base: BaseUrl,
    /// The project in the path, which is the caller's.
    project: Option<String>,
}

impl Call {
    /// The URL of a path below the API's version.
    pub(super) fn link(&self, path: &str) -> String {
        self.base.join(&match &self.project {
            Some(project) => format!("/v2.1/{project}{path}"),
            None => format!("/v2.1{path}"),
        })
    }

    /// The URL of a path that is good in any version of the API.
    pub(super) fn bookmark(&self, path: &str) -> String {
        self.base.join(&match &self.project {
            Some(project) => format!("/{project}{path}"),
            None => path.to_owned(),
        })
    }
}

/// Admits a request from a known caller in a supported version.
pub(super) async fn enter(
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
        Err(error) => error.into_response(),
    };
    version.announce(response.headers_mut());
    response
}

fn check_project(in_path: Option<&str>, caller: &Caller) -> Result<(), ApiError> {
    let Some(in_path) = in_path else { return Ok(()) };
    // nova accepts no other characters in a project, so it has no such path.
    if !in_path.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
        return Err(ApiError::not_found());
    }
    match &caller.project {
        Some(own) if own == in_path => Ok(()),
        own => Err(ApiError::bad_request(format!(
            "Malformed request URL: URL's project_id '{in_path}' doesn't match Context's \
             project_id '{}'",
            own.as_deref().unwrap_or("None")
        ))),
    }
}

/// Reads a request's body as JSON.
pub(in crate::http) async fn json_body(headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    if let Some(content_type) = headers.get(CONTENT_TYPE) {
        let essence = content_type.to_str().unwrap_or_default().split(';').next();
        let essence = essence.unwrap_or_default().trim();
        if !MEDIA_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
            return Err(ApiError::unsupported_media_type());
        }
    }
    let malformed = || ApiError::bad_request("Malformed request body");
    let body = read_body(body).await.map_err(|error| match error {
        RequestBodyError::TooLarge => ApiError::too_large(),
        RequestBodyError::Incomplete => malformed(),
    })?;
    serde_json::from_slice(&body).map_err(|_| malformed())
}

/// An action of one server, by nova's name.
pub(super) struct Action {
    /// What the path names.
    pub(super) server: String,
    pub(super) name: String,
    pub(super) arguments: Value,
}
