//! `GET /console/others`: who else has the console open that a token has opened, for the console page.
//!
//! The [register](crate::sessions) of live sessions answers alone: neither vCenter nor the token store is asked, nothing is
//! used up, and a token that its console has used up is known for as long as that console is open. A token without an
//! open console gets the same answer whether it is good or not, so that the answer tests no token, and none counts as
//! an unknown one.

use super::app::App;
use super::page_settings::ShownOthers;
use super::status::bearer;
use crate::tokens::TokenHash;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most names in one answer.
const NAMES_LIMIT: usize = 16;

/// `GET /console/others`, with `Authorization: Bearer TOKEN`.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route("/console/others", get(others))
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct OthersResponse {
    /// How many other sessions of the machine are open. `null`: the token has none open itself, or the operator does not
    /// show it.
    others: Option<usize>,
    /// The Keystone users among them, if the operator shows their names.
    users: BTreeSet<Box<str>>,
}

async fn others(State(app): State<Arc<App>>, headers: HeaderMap) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(read_others(&app, &headers)))
}

fn read_others(app: &App, headers: &HeaderMap) -> OthersResponse {
    let shown = app.page.others;
    let Some(token) = bearer(headers).filter(|_| shown != ShownOthers::None) else {
        return OthersResponse::default();
    };
    let own = app.sessions.of_token(TokenHash::of(token));
    let Some(own) = own.first() else { return OthersResponse::default() };
    let mut of_machine = app.sessions.of_instance(own.description.instance);
    // Another vCenter may have a machine of that UUID.
    of_machine.retain(|session| {
        session.id != own.id && session.description.vcenter == own.description.vcenter
    });
    let users = of_machine.iter().filter_map(|session| session.description.user.clone());
    let users = users.filter(|_| shown == ShownOthers::Names);
    let users: BTreeSet<_> = users.collect();
    OthersResponse {
        others: Some(of_machine.len()),
        users: users.into_iter().take(NAMES_LIMIT).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crate::http::app::App;
    use crate::http::page_settings::ShownOthers;
    use crate::http::public;
    use crate::http::testing::{UNKNOWN_TOKENS, app, send};
    use crate::sessions::Description;
    use crate::tokens::TokenHash;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use serde_json::{Value, json};
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;
    use vncgate_api::{OpenedSession, SessionReport, Traffic};

    /// A session of a machine by a token, of a Keystone user or of a portal.
    fn opened(machine: u128, token: &str, user: Option<&str>) -> OpenedSession<'static> {
        let description = Description {
            instance: Uuid::from_u128(machine),
            vcenter: "vcenter-a".into(),
            caller: "c".into(),
            user: user.map(Into::into),
            token_id: Some(TokenHash::of(token)),
            client: Some("203.0.113.7".into()),
            ..Description::default()
        };
        OpenedSession {
            session: Uuid::new_v4().to_string().into(),
            opened_at: 1,
            description: description.to_text().into(),
            traffic: Traffic::default(),
            known: false,
        }
    }

    async fn with_sessions(shown: ShownOthers) -> Arc<App> {
        let mut app = app();
        Arc::get_mut(&mut app).expect("its only owner").page.others = shown;
        let opened = vec![
            opened(1, "anna's", Some("anna")),
            opened(1, "ben's", Some("ben")),
            opened(1, "ben's", Some("ben")),
            opened(1, "a portal's", None),
            opened(2, "carla's", Some("carla")),
        ];
        let report = SessionReport { gateway: "envoy".into(), opened, ..SessionReport::default() };
        app.sessions.report(report, &CancellationToken::new()).await.expect("a report");
        app
    }

    async fn others(app: &Arc<App>, token: Option<&str>) -> Value {
        let mut request = Request::get("/console/others");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response =
            send(public(Arc::clone(app), None), request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(response.header("cache-control"), Some("no-store"));
        response.json()
    }

    #[tokio::test]
    async fn the_holder_of_an_open_console_learns_how_many_others_have_it_open() {
        let app = with_sessions(ShownOthers::Count).await;
        assert_eq!(others(&app, Some("anna's")).await, json!({"others": 3, "users": []}));
        assert_eq!(others(&app, Some("carla's")).await, json!({"others": 0, "users": []}));
    }

    #[tokio::test]
    async fn names_are_for_operators_to_show() {
        let app = with_sessions(ShownOthers::Names).await;
        assert_eq!(others(&app, Some("anna's")).await, json!({"others": 3, "users": ["ben"]}));
        let of_portal = json!({"others": 3, "users": ["anna", "ben"]});
        assert_eq!(others(&app, Some("a portal's")).await, of_portal);
        let nothing = json!({"others": null, "users": []});
        let app = with_sessions(ShownOthers::None).await;
        assert_eq!(others(&app, Some("anna's")).await, nothing);
    }

    #[tokio::test]
    async fn a_token_without_an_open_console_learns_nothing_and_counts_as_nothing() {
        let app = with_sessions(ShownOthers::Names).await;
        let nothing = json!({"others": null, "users": []});
        for _ in 0..=UNKNOWN_TOKENS.get() {
            for token in [None, Some(""), Some("dora's"), Some("anna")] {
                assert_eq!(others(&app, token).await, nothing, "{token:?}");
            }
        }
        assert_eq!(others(&app, Some("carla's")).await["others"], 0);
    }
}
