//! `/v1/…/tokens`: list and revoke console tokens. nova has no call for that.
//!
//! A token is named by its public identifier, the SHA-256 of the token in hexadecimal. The token itself opens a console
//! and appears in no URL of this API.

use super::app::App;
use super::audit::{CallerFields, OriginFields, TokenFields, log_token};
use super::compute::{ConsoleOptions, ConsoleRequest, Object, issue, json_body};
use super::error::ApiError;
use super::sessions::{end_of_machine, end_of_token, end_of_tokens};
use crate::audit::{Actor, Event};
use crate::console::RevokeError;
use crate::console::issue::Issued;
use crate::console_type::{ConsoleType, Protocol};
use crate::identity::Caller;
use crate::identity::policy::Right;
use crate::tokens::{Record, TokenHash};
use crate::vcenter::scope::Scope;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::SystemTime;
use tracing::{info, warn};
use uuid::Uuid;
use vncgate_api::Access;

/// `DELETE /v1/tokens/{id}`; `GET`, `POST` and `DELETE /v1/instances/{uuid}/tokens`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/tokens/{id}", delete(revoke))
        .route("/v1/instances/{uuid}/tokens", get(list).post(create).delete(revoke_all))
}

#[derive(Serialize)]
struct ListedToken {
    id: String,
    instance_uuid: Uuid,
    console_type: ConsoleType,
    /// To whom it was issued: `api_token:NAME`, or `keystone:` and the identifier of the user.
    caller: String,
    /// Name and domain of the Keystone user.
    user: Option<String>,
    project: Option<String>,
    service_host: String,
    host: String,
    protocol: Protocol,
    /// `null` for WebMKS, whose port is in its ticket.
    port: Option<NonZeroU16>,
    access: Access,
    clipboard: bool,
    /// For whom or what it is, in its issuer's words.
    label: Option<String>,
    /// RFC 3339 in UTC.
    issued_at: String,
    /// RFC 3339 in UTC.
    expires_at: String,
}

impl From<(TokenHash, Record)> for ListedToken {
    fn from((id, record): (TokenHash, Record)) -> Self {
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let protocol = record.protocol();
        Self {
            id: id.to_string(),
            instance_uuid: record.instance,
            console_type: record.console,
            caller: record.caller,
            user: record.user,
            project: record.project,
            service_host: record.service_host,
            host: record.host,
            protocol,
            port: record.vnc_port,
            access: record.access,
            clipboard: record.clipboard,
            label: record.label,
            issued_at: time(record.issued_at),
            expires_at: time(record.expires_at),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let scope = app.authorize(&caller, Right::ReadToken, "read_token")?;
    let instance = parse_instance(&uuid)?;
    let tokens = app.consoles.tokens(instance, scope).await;
    let tokens = tokens.map_err(|error| api_error(&uuid, &error))?;
    let tokens: Vec<ListedToken> = tokens.into_iter().map(ListedToken::from).collect();
    Ok(Json(json!({"tokens": tokens})))
}

/// Issues a token as nova's calls do, and returns with the link what revokes it.
async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(uuid): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let mut arguments = Object::new(None, json_body(&headers, body).await?)?;
    let console = arguments.choice("type", &["novnc", "xvpvnc", "webmks"])?;
    let options = ConsoleOptions::read(&mut arguments)?;
    arguments.end()?;
    let console = match console {
        Some("xvpvnc") => ConsoleType::Xvpvnc,
        Some("webmks") => ConsoleType::Webmks,
        _ => ConsoleType::Novnc,
    };
    let request = ConsoleRequest::new(console, options);
    let Issued { url, id, record, .. } = issue(&app, &caller, &headers, &uuid, request).await?;
    let token = ListedToken::from((id, record));
    Ok(Json(json!({"url": url, "token": token})))
}

async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let scope = app.authorize(&caller, Right::RevokeToken, "revoke_token")?;
    let not_found = || ApiError::item_not_found("Token not found");
    let token: TokenHash = id.parse().map_err(|_| not_found())?;
    match app.consoles.revoke(token, scope).await {
        Ok(Some(record)) => {
            let fields = TokenFields::of(Some(token), Some(&record));
            let (by, origin) = (CallerFields::of(&caller), OriginFields::of(&headers));
            log_token!(
                info, fields, origin, "token revoked"; revoked_by = by.id, revoked_by_user = by.user,
            );
            let actor = Actor::of(&caller);
            app.audit.record(|| Event::TokenRevoked { token: fields, origin, actor });
            end_of_tokens(&app, &caller, &[token]).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        // It has expired or was used up, and what it has opened may be open still. Machines of another project, and their
        // tokens, are reported as not found.
        Ok(None) => match end_of_token(&app, scope, &caller, token).await? {
            0 => {
                // A browser may be on its way that has used it up. Whether its machine is in a narrower scope, no record
                // tells any more.
                if *scope == Scope::Everything {
                    end_of_tokens(&app, &caller, &[token]).await?;
                }
                Err(not_found())
            }
            _ => Ok(StatusCode::NO_CONTENT),
        },
        Err(error) => match api_error(&id, &error) {
            ApiError::Nova { status: StatusCode::NOT_FOUND, .. } => Err(not_found()),
            other => Err(other),
        },
    }
}

async fn revoke_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(uuid): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let scope = app.authorize(&caller, Right::RevokeToken, "revoke_token")?;
    let instance = parse_instance(&uuid)?;
    let tokens = app.consoles.revoke_all(instance, scope).await;
    let tokens = tokens.map_err(|error| api_error(&uuid, &error))?;
    let revoked = tokens.len();
    let CallerFields { id, user, .. } = CallerFields::of(&caller);
    info!(%instance, revoked, revoked_by = id, revoked_by_user = user, "tokens revoked");
    let (origin, actor) = (OriginFields::of(&headers), Actor::of(&caller));
    app.audit.record(|| Event::TokensRevoked { instance, count: revoked, origin, actor });
    end_of_tokens(&app, &caller, &tokens).await?;
    end_of_machine(&app, scope, &caller, instance).await?;
    Ok(Json(json!({"revoked": revoked})))
}

fn parse_instance(uuid: &str) -> Result<Uuid, ApiError> {
    uuid.parse().map_err(|_| ApiError::instance_not_found(uuid))
}

fn api_error(id: &str, error: &RevokeError) -> ApiError {
    warn!(id, %error, "tokens cannot be looked up");
    match error {
        RevokeError::Locate(error) => ApiError::of_location(id, error),
        RevokeError::Store(_) => ApiError::store_unavailable(),
    }
}
