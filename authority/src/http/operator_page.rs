//! What the operator has set for the console page, and its logo: `GET /console/page`, `GET /console/logo`.

use super::app::App;
use super::page_settings::Logo;
use super::pages::with_own_policy;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

/// Both are for every browser: the page asks before it knows whether its token is good.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/console/page", get(settings))
        .route("/console/logo", get(logo))
        // An SVG that is opened by itself could have scripts.
        .layer(from_fn(with_own_policy))
}

async fn settings(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-cache")], Json(app.page.clone()))
}

async fn logo(State(app): State<Arc<App>>) -> Response {
    match &app.page.logo {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Logo { content_type, bytes }) => {
            let headers = [(CONTENT_TYPE, *content_type), (CACHE_CONTROL, "no-cache")];
            (headers, bytes.to_vec()).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::http::page_settings::BUTTONS;
    use crate::http::public;
    use crate::http::testing::{app, get, send};
    use axum::http::StatusCode;

    #[tokio::test]
    async fn without_settings_the_page_has_its_own() {
        let response = send(public(app(), None), get("/console/page")).await;
        assert_eq!(response.status, StatusCode::OK);
        let policy = response.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        let settings: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let nothing = serde_json::json!({
            "title": null, "logo": false, "buttons": null, "defaults": {}, "locked": []
        });
        assert_eq!(settings, nothing);
        let logo = send(public(app(), None), get("/console/logo")).await;
        assert_eq!(logo.status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn the_page_has_every_button_that_can_be_left_out() {
        let page = send(public(app(), None), get("/console.html")).await;
        let page = String::from_utf8(page.body).unwrap();
        for button in BUTTONS {
            let id = format!("<button type=\"button\" id=\"{}\"", button.replace('_', "-"));
            assert!(page.contains(&id), "{button}");
        }
    }
}
