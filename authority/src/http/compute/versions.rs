//! Version documents, which tell clients what the API supports. They require no token.

use super::link::BaseUrl;
use super::microversion::{Microversion, NotNegotiated};
use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// When nova's API got this version, in nova's own words.
const UPDATED: &str = "2013-07-23T11:33:21Z";

/// `GET /`: every version of the API, which is one.
pub(super) async fn all(headers: HeaderMap) -> Json<Value> {
    let links = json!([{"rel": "self", "href": BaseUrl::of(&headers).join("/v2.1/")}]);
    Json(json!({"versions": [document(links)]}))
}

/// `GET /v2.1/`: this version, and its microversions.
pub(super) async fn current(headers: HeaderMap) -> Result<Response, NotNegotiated> {
    let version = Microversion::negotiate(&headers)?;
    let mut document = document(json!([
        {"rel": "self", "href": BaseUrl::of(&headers).join("/v2.1/")},
        {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
    ]));
    document["media-types"] = json!([{
        "base": "application/json",
        "type": "application/vnd.openstack.compute+json;version=2.1",
    }]);
    let mut response = Json(json!({"version": document})).into_response();
    version.announce(response.headers_mut());
    Ok(response)
}

fn document(links: Value) -> Value {
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": Microversion::MAX.to_string(),
        "min_version": Microversion::MIN.to_string(),
        "updated": UPDATED,
        "links": links,
    })
}
