//! What another site asks about a token whose machine is ours. Who asks is known by its certificate.

use super::fault::Refused;
use super::{App, whole_body};
use crate::console::CheckError;
use crate::sites::{CONSOLE_PATH, Question, STATUS_PATH};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Serialize;
use std::sync::Arc;
use tracing::{info, warn};

/// The site at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer(pub Arc<str>);

/// `POST /v1/sites/console` and `POST /v1/sites/status`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(CONSOLE_PATH, post(console)).route(STATUS_PATH, post(status))
}

async fn console(State(app): State<Arc<App>>, peer: Extension<Peer>, body: Body) -> Response {
    let question = match read(body, &peer).await {
        Ok(question) => question,
        Err(status) => return status.into_response(),
    };
    let answer = app.consoles.console_for_other_site(question.token).await;
    respond(&app, &peer, "console", question, answer)
}

async fn status(State(app): State<Arc<App>>, peer: Extension<Peer>, body: Body) -> Response {
    let question = match read(body, &peer).await {
        Ok(question) => question,
        Err(status) => return status.into_response(),
    };
    let answer = app.consoles.machine_for_other_site(question.token).await;
    respond(&app, &peer, "status", question, answer)
}

async fn read(body: Body, Peer(site): &Peer) -> Result<Question, StatusCode> {
    let body = whole_body(body).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    serde_json::from_slice(&body).map_err(|error| {
        warn!(%site, %error, "a site's question is none: does it have the same version?");
        StatusCode::BAD_REQUEST
    })
}

fn respond(
    app: &App,
    Peer(site): &Peer,
    asked: &'static str,
    Question { token, session }: Question,
    answer: Result<impl Serialize, CheckError>,
) -> Response {
    match answer {
        Ok(answer) => {
            info!(%site, question = asked, %session, token_id = %token, "a site's question answered");
            app.metrics.site_answer(site, asked, "ok");
            Json(answer).into_response()
        }
        Err(error) => {
            let refused = Refused::from(&error);
            let code = refused.0.code.as_str();
            warn!(
                %site, question = asked, %session, token_id = %token, code, %error,
                "a site's question refused"
            );
            app.metrics.site_answer(site, asked, code);
            refused.into_response()
        }
    }
}
