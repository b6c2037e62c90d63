//! `/v1/…/tokens`: which links to consoles are out there, and how to end them. nova has no call for that.
//!
//! A token is named by its public identifier, the SHA-256 of the token in hexadecimal: the token itself, which
//! opens a console, stands in no URL.

use super::App;
use super::fault::Fault;
use crate::console::RevokeError;
use crate::identity::Caller;
use crate::identity::policy::Right;
use crate::tokens::{ConsoleType, Record, TokenHash};
use crate::vcenter::policy::Kind;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::SystemTime;
use tracing::{info, warn};
use uuid::Uuid;

/// `DELETE /v1/tokens/{id}`; `GET` and `DELETE /v1/instances/{uuid}/tokens`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/tokens/{id}", delete(revoke))
        .route("/v1/instances/{uuid}/tokens", get(list).delete(revoke_all))
}

#[derive(Serialize)]
struct Listed {
    id: String,
    instance_uuid: Uuid,
    console_type: ConsoleType,
    service_host: String,
    host: String,
    protocol: Kind,
    /// Of VNC; WebMKS has a ticket.
    port: Option<NonZeroU16>,
    /// RFC 3339 in UTC.
    issued_at: String,
    /// RFC 3339 in UTC.
    expires_at: String,
}

impl From<(TokenHash, Record)> for Listed {
    fn from((id, record): (TokenHash, Record)) -> Self {
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        Self {
            id: id.to_string(),
            instance_uuid: record.instance,
            console_type: record.console,
            service_host: record.service_host,
            host: record.host,
            protocol: record.protocol.kind(),
            port: record.protocol.port(),
            issued_at: time(record.issued_at),
            expires_at: time(record.expires_at),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<Json<Value>, Fault> {
    let scope = app.authorize(&caller, Right::ReadToken, "read_token")?;
    let instance = parse_instance(&uuid)?;
    let tokens = app.consoles.tokens(instance, scope).await;
    let tokens = tokens.map_err(|error| fault(&uuid, &error))?;
    let tokens: Vec<Listed> = tokens.into_iter().map(Listed::from).collect();
    Ok(Json(json!({"tokens": tokens})))
}

async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    let scope = app.authorize(&caller, Right::RevokeToken, "revoke_token")?;
    let not_found = || Fault::item_not_found("Token not found");
    let token: TokenHash = id.parse().map_err(|_| not_found())?;
    match app.consoles.revoke(token, scope).await {
        Ok(Some(Record { instance, .. })) => {
            info!(%instance, token_id = %token, caller = caller.name, "token revoked");
            Ok(StatusCode::NO_CONTENT)
        }
        // Another project's machine and its tokens do not exist for this caller.
        Ok(None) => Err(not_found()),
        Err(error) => match fault(&id, &error) {
            Fault::Nova { status: StatusCode::NOT_FOUND, .. } => Err(not_found()),
            other => Err(other),
        },
    }
}

async fn revoke_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<Json<Value>, Fault> {
    let scope = app.authorize(&caller, Right::RevokeToken, "revoke_token")?;
    let instance = parse_instance(&uuid)?;
    let revoked = app.consoles.revoke_all(instance, scope).await;
    let revoked = revoked.map_err(|error| fault(&uuid, &error))?;
    info!(%instance, revoked, caller = caller.name, "tokens revoked");
    Ok(Json(json!({"revoked": revoked})))
}

fn parse_instance(uuid: &str) -> Result<Uuid, Fault> {
    uuid.parse().map_err(|_| Fault::instance_not_found(uuid))
}

fn fault(id: &str, error: &RevokeError) -> Fault {
    warn!(id, %error, "tokens cannot be looked up");
    match error {
        RevokeError::NotLocated(error) => Fault::of_location(id, error),
        RevokeError::Store(_) => Fault::store_unavailable(),
    }
}
