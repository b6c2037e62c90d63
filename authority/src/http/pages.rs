//! The console page and noVNC's library, embedded in this binary, and optionally a folder of other noVNC pages.
//!
//! The Content-Security-Policy of every page lets it load from and connect to its own origin only, whatever its
//! URL's parameters say (CVE-2017-18635), and forbids framing but by the sites of [`EmbedOrigin`].

mod embedding;

pub use embedding::EmbedOrigin;

use axum::Router;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, get_service};
use percent_encoding::percent_decode_str;
use rust_embed::{Embed, EmbeddedFile};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::fs;
use tower_http::services::ServeDir;

/// For our own page: no inline scripts or styles; images are those that noVNC makes of the screen's rectangles.
const OWN_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// noVNC's own pages (`vnc.html`, `vnc_lite.html`) have inline scripts and styles, sounds and fonts.
const STOCK_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; media-src 'self' data:; connect-src 'self'; object-src 'none'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The page itself.
#[derive(Embed)]
#[folder = "pages"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "layouts/*.json"]
#[include = "languages/*.json"]
#[include = "languages/details/*.json"]
#[exclude = "node_modules/*"]
#[exclude = "package*"]
struct Page;

/// noVNC.
#[derive(Embed)]
#[folder = "pages/node_modules/@novnc/novnc"]
#[include = "core/*"]
#[include = "vendor/*"]
struct Novnc;

/// `/console.html` and what it loads, `/novnc/…`, and the files of the folder `web`. Pages of `embed_origins` may show them
/// in a frame.
pub fn routes(web: Option<&Path>, embed_origins: &[EmbedOrigin]) -> Router {
    let page = |name: String| get(async move |headers| file(&headers, &name, Page::get(&name)));
    let pages = Page::iter().fold(Router::new(), |router, name| {
        router.route(&format!("/{name}"), page(name.into_owned()))
    });
    let own = pages.route("/novnc/{*path}", get(novnc)).layer(from_fn(with_own_policy));
    let all = match web {
        None => own,
        Some(web) => {
            let web: Arc<Path> = web.into();
            let files = get_service(stock(&web))
                .layer(from_fn_with_state(web, refuse_others_files))
                .layer(from_fn(with_stock_policy));
            own.fallback_service(files)
        }
    };
    let directive: Arc<str> = embedding::frame_ancestors(embed_origins).into();
    all.layer(map_response(move |response| {
        let directive = Arc::clone(&directive);
        async move { embedding::allow(&directive, response) }
    }))
}

/// Whether the page has a table of a guest's keyboard layout.
pub fn has_layout(name: &str) -> bool {
    Page::get(&format!("layouts/{name}.json")).is_some()
}

/// Whether the page speaks a language.
pub fn has_language(name: &str) -> bool {
    !name.contains('/') && Page::get(&format!("languages/{name}.json")).is_some()
}

async fn novnc(headers: HeaderMap, UrlPath(path): UrlPath<String>) -> Response {
    file(&headers, &path, Novnc::get(&path))
}

/// A folder of pages. It serves files only: an index page would need a redirect from `/folder` to `/folder/`,
/// and with it `//evil.example/%2F..` becomes a redirect to another site (CVE-2021-3654).
fn stock(web: &Path) -> ServeDir {
    ServeDir::new(web).append_index_html_on_directories(false)
}

/// Refuses what lies in the folder `web` by accident: hidden files such as `.htpasswd` and `.git/config`, what a symbolic
/// link outside of the folder leads to, and anything that is not a file. A link to another file of the folder is served;
/// that is how Kubernetes mounts a ConfigMap.
async fn refuse_others_files(
    State(web): State<Arc<Path>>,
    request: Request,
    next: Next,
) -> Response {
    let not_found = || StatusCode::NOT_FOUND.into_response();
    let Ok(path) = percent_decode_str(request.uri().path()).decode_utf8() else {
        return not_found();
    };
    // RFC 8615's folder is hidden and meant to be served.
    let hidden = |name: &str| name.starts_with('.') && name != ".well-known";
    if path.split(['/', '\\']).any(hidden) {
        return not_found();
    }
    match own_file(&web, path.trim_start_matches('/')).await {
        Ok(true) => next.run(request).await,
        Ok(false) | Err(_) => not_found(),
    }
}

/// Whether this is a file, and in the folder also where symbolic links are followed.
async fn own_file(web: &Path, path: &str) -> io::Result<bool> {
    let (web, file) = (fs::canonicalize(web).await?, fs::canonicalize(web.join(path)).await?);
    Ok(file.starts_with(web) && fs::metadata(file).await?.is_file())
}

fn file(request: &HeaderMap, name: &str, embedded: Option<EmbeddedFile>) -> Response {
    let Some(embedded) = embedded else { return StatusCode::NOT_FOUND.into_response() };
    // Browsers revalidate scripts at each load. The page itself receives a token, so no cache may keep it. The
    // browser's history keeps the link with its token all the same: no header and no script can prevent that.
    let caching = if name.ends_with(".html") { "no-store" } else { "no-cache" };
    let tag = format!("\"{}\"", hex::encode(embedded.metadata.sha256_hash()));
    let headers = [
        (CONTENT_TYPE, embedded.metadata.mimetype().to_owned()),
        (CACHE_CONTROL, caching.to_owned()),
        (ETAG, tag.clone()),
    ];
    match request.get(IF_NONE_MATCH) {
        Some(known) if known.as_bytes() == tag.as_bytes() => {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        }
        _ => (headers, embedded.data).into_response(),
    }
}

pub(super) async fn with_own_policy(request: Request, next: Next) -> Response {
    with_policy(OWN_POLICY, next.run(request).await)
}

async fn with_stock_policy(request: Request, next: Next) -> Response {
    with_policy(STOCK_POLICY, next.run(request).await)
}

fn with_policy(policy: HeaderValue, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    // A stock page has the token in its URL.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests;
