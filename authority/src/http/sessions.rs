//! `/v1/…/sessions`: list and end the consoles that are open. nova has no call for that.

use super::app::App;
use super::audit::{CallerFields, OriginFields};
use super::body::{RequestBodyError, read_body};
use super::error::ApiError;
use crate::console_type::{ConsoleType, Protocol};
use crate::identity::Caller;
use crate::identity::policy::Right;
use crate::sessions::{EndCode, EndReason, Session};
use crate::text::is_invisible;
use crate::tokens::TokenHash;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::scope::Scope;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use url::form_urlencoded;
use uuid::Uuid;
use vncgate_api::Access;

/// Most sessions in one response, as nova's `[api] max_limit`.
const MAX_LIMIT: usize = 1000;

/// Longest reason that an operator may give the user, in bytes: it has to fit into a Close frame with its code.
const REASON_LIMIT: usize = 100;

/// How long a call that ends sessions waits until they have ended. An order takes up to a second to another replica, and a
/// browser up to a second to answer it.
const END_WAIT: Duration = Duration::from_secs(2);
const END_LOOK: Duration = Duration::from_millis(20);

/// `GET /v1/sessions`, `GET` and `DELETE /v1/sessions/{id}`, `DELETE /v1/instances/{uuid}/sessions`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/sessions", get(list))
        .route("/v1/sessions/{id}", get(show).delete(end))
        .route("/v1/instances/{uuid}/sessions", delete(end_all))
}

/// Which sessions to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Instance UUID, or the exact name.
    machine: Option<String>,
    /// `api_token:NAME`, `keystone:` and the identifier of the user, or the user's name.
    caller: Option<String>,
    /// Identifier of the project.
    project: Option<String>,
    /// The browser's IP address.
    client: Option<IpAddr>,
    /// Most sessions in the response.
    limit: Option<usize>,
    /// The session after which the list begins. It need not be open any more.
    marker: Option<Uuid>,
}

impl Filter {
    /// Nothing is done for what is not asked for: a page may be looked for among all sessions.
    fn matches(&self, session: &Session) -> bool {
        let of = &session.description;
        let is = |wanted: &Option<String>, found: &[Option<&str>]| {
            wanted.as_deref().is_none_or(|wanted| found.contains(&Some(wanted)))
        };
        let is_machine = self.machine.as_deref().is_none_or(|wanted| {
            of.machine.as_deref() == Some(wanted)
                || wanted.parse::<Uuid>().is_ok_and(|wanted| wanted == of.instance)
        });
        is_machine
            && is(&self.caller, &[Some(&*of.caller), of.user.as_deref()])
            && is(&self.project, &[of.project.as_deref()])
            && self.client.is_none_or(|wanted| {
                of.client.as_deref().and_then(|client| client.parse().ok()) == Some(wanted)
            })
    }

    /// The query of the next page, which begins after this session.
    fn next(&self, marker: Uuid, limit: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in
            [("machine", &self.machine), ("caller", &self.caller), ("project", &self.project)]
        {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        if let Some(client) = self.client {
            query.append_pair("client", &client.to_string());
        }
        query.append_pair("limit", &limit.to_string());
        query.append_pair("marker", &marker.to_string()).finish()
    }
}

#[derive(Serialize)]
struct ListedSession<'a> {
    id: Uuid,
    /// `null` in these and the following fields if the gateway and the authority have different versions.
    instance_uuid: Option<Uuid>,
    machine: Option<&'a str>,
    service_host: Option<&'a str>,
    host: Option<&'a str>,
    protocol: Option<Protocol>,
    console_type: Option<ConsoleType>,
    access: Access,
    clipboard: bool,
    label: Option<&'a str>,
    /// What Envoy is connected to. `null` for a caller who does not see every project.
    target: Option<SocketAddr>,
    caller: Option<&'a str>,
    user: Option<&'a str>,
    project: Option<&'a str>,
    token_id: Option<TokenHash>,
    client: Option<&'a str>,
    gateway: &'a str,
    worker: String,
    opened_at: String,
    last_message_at: Option<String>,
    last_input_at: Option<String>,
    must_end_at: Option<String>,
    bytes_from_browser: u64,
    bytes_to_browser: u64,
    /// Why it was ordered to end, until it has.
    ending: Option<Value>,
}

impl<'a> ListedSession<'a> {
    fn of(session: &'a Session, scope: &Scope) -> Self {
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let text = |text: &'a str| (!text.is_empty()).then_some(text);
        let of = &session.description;
        let ending = session.ending.as_deref();
        Self {
            id: session.id,
            instance_uuid: (!of.instance.is_nil()).then_some(of.instance),
            machine: of.machine.as_deref(),
            service_host: text(&of.vcenter),
            host: text(&of.host),
            protocol: of.protocol(),
            console_type: of.console_type,
            access: of.access,
            clipboard: !of.no_clipboard,
            label: of.label.as_deref(),
            target: of.target.filter(|_| *scope == Scope::Everything),
            caller: text(&of.caller),
            user: of.user.as_deref(),
            project: of.project.as_deref(),
            token_id: of.token_id,
            client: of.client.as_deref(),
            gateway: &session.gateway,
            worker: session.worker_id(),
            opened_at: time(session.opened_at),
            last_message_at: session.last_message_at().map(time),
            last_input_at: session.last_input_at().map(time),
            must_end_at: session.must_end_at().map(time),
            bytes_from_browser: session.traffic.from_browser,
            bytes_to_browser: session.traffic.to_browser,
            ending: ending
                .map(|reason| json!({"code": reason.code.as_str(), "message": reason.words})),
        }
    }
}

/// In the order of identifiers: so a list that is read page by page has every session that lives that long.
async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(filter) = filter.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let scope = app.authorize(&caller, Right::SeeSessions, "see_sessions")?;
    let limit = filter.limit.filter(|limit| *limit > 0).unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
    // One more tells whether there is a next page. In a limited scope, which vCenter knows, all may have to be looked at.
    let most = if *scope == Scope::Everything { limit + 1 } else { usize::MAX };
    let sessions = app.sessions.page(filter.marker, most, |session| filter.matches(session));
    let mut sessions = within(&app, scope, sessions).await?;
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let listed: Vec<_> = sessions.iter().map(|session| ListedSession::of(session, scope)).collect();
    let mut document = json!({"sessions": listed});
    if let (true, Some(last)) = (more, sessions.last()) {
        let href = format!("/v1/sessions?{}", filter.next(last.id, limit));
        document["sessions_links"] = json!([{"rel": "next", "href": href}]);
    }
    Ok(Json(document))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let scope = app.authorize(&caller, Right::SeeSessions, "see_sessions")?;
    let session = find(&app, scope, &id).await?;
    Ok(Json(json!({"session": ListedSession::of(&session, scope)})))
}

async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    query: Result<Query<Ending>, QueryRejection>,
    body: Body,
) -> Result<Response, ApiError> {
    let scope = app.authorize(&caller, Right::EndSessions, "end_sessions")?;
    let reason = read_reason(query, body).await?.by(&caller.id);
    let session = find(&app, scope, &id).await?;
    let ordered = app.sessions.end(session.id, reason.clone()).await;
    if !ordered.map_err(|_| ApiError::store_unavailable())? {
        return Err(not_found());
    }
    let (by, origin) = (CallerFields::of(&caller), OriginFields::of(&headers));
    info!(
        session = %session.id,
        instance = %session.description.instance,
        ended_by = by.id,
        ended_by_user = by.user,
        reason = reason.words,
        client = origin.client,
        request_id = origin.request_id,
        "a caller ends a session"
    );
    Ok(ended(&app, &[session.id]).await)
}

async fn end_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(uuid): Path<String>,
    query: Result<Query<Ending>, QueryRejection>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let scope = app.authorize(&caller, Right::EndSessions, "end_sessions")?;
    let reason = read_reason(query, body).await?.by(&caller.id);
    let instance: Uuid = uuid.parse().map_err(|_| ApiError::instance_not_found(&uuid))?;
    let located = app.consoles.locate_within(instance, None, scope).await;
    located.map_err(|error| ApiError::of_location(&uuid, &error))?;
    // Another vCenter may have a machine of that UUID.
    let sessions = within(&app, scope, app.sessions.of_instance(instance)).await?;
    let sessions: Vec<Uuid> = sessions.iter().map(|session| session.id).collect();
    let ordered = app.sessions.end_all(&sessions, reason.clone()).await;
    let ordered = ordered.map_err(|_| ApiError::store_unavailable())?;
    let (by, origin) = (CallerFields::of(&caller), OriginFields::of(&headers));
    info!(
        %instance,
        sessions = ordered,
        ended_by = by.id,
        ended_by_user = by.user,
        reason = reason.words,
        client = origin.client,
        request_id = origin.request_id,
        "a caller ends the sessions of a machine"
    );
    ended(&app, &sessions).await;
    Ok(Json(json!({"ended": ordered})))
}

/// Waits a moment until sessions have ended: 204, or 202 if their gateways have not said so yet.
async fn ended(app: &App, sessions: &[Uuid]) -> Response {
    let deadline = Instant::now() + END_WAIT;
    while sessions.iter().any(|session| app.sessions.get(*session).is_some()) {
        if Instant::now() >= deadline {
            return StatusCode::ACCEPTED.into_response();
        }
        sleep(END_LOOK).await;
    }
    StatusCode::NO_CONTENT.into_response()
}

/// Why sessions end, as the body or the query of the request has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ending {
    reason: Option<String>,
}

async fn read_reason(
    query: Result<Query<Ending>, QueryRejection>,
    body: Body,
) -> Result<EndReason, ApiError> {
    let Query(Ending { reason }) =
        query.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let body = read_body(body).await.map_err(|error| match error {
        RequestBodyError::TooLarge => ApiError::too_large(),
        RequestBodyError::Incomplete => ApiError::malformed_or_incorrect(),
    })?;
    let in_body = match body.is_empty() {
        true => None,
        false => {
            let ending: Ending = serde_json::from_slice(&body)
                .map_err(|_| ApiError::bad_request(r#"The body has to be {"reason": "…"}."#))?;
            ending.reason
        }
    };
    let end = EndReason::new(EndCode::EndedByOperator);
    let Some(reason) = in_body.or(reason) else { return Ok(end) };
    if reason.len() > REASON_LIMIT || reason.contains(is_invisible) {
        let message =
            format!("The reason has to be one line of text of at most {REASON_LIMIT} bytes.");
        return Err(ApiError::bad_request(message));
    }
    Ok(end.with_words(&reason))
}

/// A session that the caller may know of. One of another project's machine is not found.
async fn find(app: &App, scope: &Scope, id: &str) -> Result<Arc<Session>, ApiError> {
    let session = id.parse().ok().and_then(|id| app.sessions.get(id)).ok_or_else(not_found)?;
    let of = &session.description;
    match app.consoles.locate_within(of.instance, Some(&of.vcenter), scope).await {
        Ok(()) => Ok(session),
        Err(error) => match ApiError::of_location(id, &error) {
            ApiError::Nova { status: StatusCode::NOT_FOUND, .. } => Err(not_found()),
            other => {
                warn!(session = id, %error, "the machine of a session cannot be looked up");
                Err(other)
            }
        },
    }
}

/// Those of the sessions whose machines are in the scope. Asks vCenter only if it is limited.
async fn within(
    app: &App,
    scope: &Scope,
    mut sessions: Vec<Arc<Session>>,
) -> Result<Vec<Arc<Session>>, ApiError> {
    if *scope == Scope::Everything || sessions.is_empty() {
        return Ok(sessions);
    }
    let wanted: HashSet<Uuid> =
        sessions.iter().map(|session| session.description.instance).collect();
    let is_wanted = move |machine: &VirtualMachine| {
        machine.instance.is_some_and(|instance| wanted.contains(&instance))
    };
    let (located, failed) = app.consoles.vcenters().list(scope, is_wanted).await;
    if let Some((service_host, error)) = failed.first() {
        warn!(vcenter = service_host, %error, "the machines of sessions cannot be looked up");
        if located.is_empty() {
            return Err(ApiError::of_vcenter(error));
        }
    }
    let own: HashSet<(Uuid, &str)> = located
        .iter()
        .filter_map(|one| Some((one.machine.instance?, one.vcenter.service_host())))
        .collect();
    sessions.retain(|session| {
        let of = &session.description;
        own.contains(&(of.instance, &*of.vcenter))
    });
    Ok(sessions)
}

/// Ends what these tokens have opened, which were revoked, and what they are about to open, if that is configured.
pub(super) async fn end_of_tokens(
    app: &App,
    caller: &Caller,
    tokens: &[TokenHash],
) -> Result<(), ApiError> {
    if !app.revoke_ends_sessions {
        return Ok(());
    }
    let reason = EndReason::new(EndCode::TokenRevoked).by(&caller.id);
    let ended = app.sessions.end_of_tokens(tokens, reason).await;
    ended.map_err(|_| ApiError::store_unavailable())
}

/// Ends what a token has opened that is no longer there, if that is configured and its machine is in the scope. Returns how
/// many sessions were live.
pub(super) async fn end_of_token(
    app: &App,
    scope: &Scope,
    caller: &Caller,
    token: TokenHash,
) -> Result<usize, ApiError> {
    let sessions = within(app, scope, app.sessions.of_token(token)).await?;
    end_revoked(app, caller, &sessions).await
}

/// The same for all tokens of a machine.
pub(super) async fn end_of_machine(
    app: &App,
    scope: &Scope,
    caller: &Caller,
    instance: Uuid,
) -> Result<usize, ApiError> {
    let sessions = within(app, scope, app.sessions.of_instance(instance)).await?;
    end_revoked(app, caller, &sessions).await
}

async fn end_revoked(
    app: &App,
    caller: &Caller,
    sessions: &[Arc<Session>],
) -> Result<usize, ApiError> {
    if !app.revoke_ends_sessions {
        return Ok(0);
    }
    let sessions: Vec<Uuid> = sessions.iter().map(|session| session.id).collect();
    let reason = EndReason::new(EndCode::TokenRevoked).by(&caller.id);
    let ordered = app.sessions.end_all(&sessions, reason).await;
    ordered.map_err(|_| ApiError::store_unavailable())
}

fn not_found() -> ApiError {
    ApiError::item_not_found("Session not found")
}

#[cfg(test)]
mod tests;
