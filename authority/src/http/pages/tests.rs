use crate::http::testing::{TestResponse, app, get, send};
use crate::http::{internal, public};
use axum::http::StatusCode;
use axum::http::header::IF_NONE_MATCH;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use vncgate_api::RefusalCode;

async fn page(path: &str) -> TestResponse {
    send(public(app(), None), get(path)).await
}

/// A code without words would be shown in those of the authority alone.
#[tokio::test]
async fn the_page_has_words_for_every_refusal() {
    let reasons = String::from_utf8(page("/reasons.js").await.body).unwrap();
    let words: Value = serde_json::from_slice(&page("/languages/en.json").await.body).unwrap();
    for code in RefusalCode::ALL {
        assert!(reasons.contains(&format!("\n    {}: \"", code.as_str())), "{code:?}");
        for of in ["reason", "advice"] {
            assert!(words.get(format!("{of}.{}", code.as_str())).is_some(), "{of} of {code:?}");
        }
    }
}

#[tokio::test]
async fn the_page_and_novnc_come_with_a_policy() {
    for (path, content_type) in [
        ("/console.html", "text/html"),
        ("/console.css", "text/css"),
        ("/console.js", "text/javascript"),
        ("/layouts/tr-q.json", "application/json"),
        ("/languages/en.json", "application/json"),
        ("/novnc/core/rfb.js", "text/javascript"),
        ("/novnc/vendor/pako/lib/zlib/inflate.js", "text/javascript"),
    ] {
        let response = page(path).await;
        assert_eq!(response.status, StatusCode::OK, "{path}");
        assert_eq!(response.header("content-type"), Some(content_type), "{path}");
        let policy = response.header("content-security-policy").unwrap();
        for directive in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(directive), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("cross-origin-opener-policy"), Some("same-origin"));
    }
    assert_eq!(page("/console.html").await.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_script_that_the_browser_has_is_not_sent_again() {
    let first = page("/novnc/core/rfb.js").await;
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    let mut again = get("/novnc/core/rfb.js");
    again.headers_mut().insert(IF_NONE_MATCH, first.headers["etag"].clone());
    let again = send(public(app(), None), again).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert!(again.body.is_empty());
}

#[tokio::test]
async fn nothing_else_is_served() {
    for path in [
        "/package.json",
        "/README.md",
        "/layouts/generate",
        "/node_modules/@novnc/novnc/core/rfb.js",
        "/novnc/package.json",
        "/novnc/core/",
        "/novnc/core/../package.json",
        "/novnc/core/%2e%2e/package.json",
        "/vnc.html",
        "//evil.example/%2F..",
        // What belongs on the internal listener.
        "/v1/check",
        "/metrics",
        "/readyz",
        "/healthz",
    ] {
        assert_eq!(page(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/console.html", "/v1/vms", "/console/status"] {
        let response = send(internal(app()), get(path)).await;
        assert_eq!(response.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn other_pages_are_served_from_a_folder_and_redirect_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "outside").unwrap();
    let web = folder.path().join("web");
    fs::create_dir_all(web.join("app")).unwrap();
    fs::write(web.join("vnc.html"), "<title>noVNC</title>").unwrap();
    fs::write(web.join("app/index.html"), "index").unwrap();
    let page = async |path: &str| send(public(app(), Some(&web)), get(path)).await;

    let stock = page("/vnc.html?token=5d93eed6-a1b7-5668-903c-b43c7c81d44c").await;
    assert_eq!(stock.status, StatusCode::OK);
    let policy = stock.header("content-security-policy").unwrap();
    assert!(policy.contains("connect-src 'self'"), "{policy}");
    assert_eq!(stock.header("referrer-policy"), Some("no-referrer"));
    let own = page("/console.html").await;
    assert!(!own.header("content-security-policy").unwrap().contains("unsafe"));

    for path in [
        "/app",
        "/app/",
        "//app",
        "//evil.example/%2F..",
        "//evil.example/..",
        "/%2Fevil.example/%2E%2E",
        "///evil.example/app/..",
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/app/..%5c..%5csecret",
    ] {
        let response = page(path).await;
        assert_eq!(response.header("location"), None, "{path}");
        assert!(response.status.is_client_error(), "{path}: {}", response.status);
        assert!(!response.body.starts_with(b"outside"), "{path}");
    }
}

#[tokio::test]
async fn hidden_files_and_links_out_of_the_folder_are_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web");
    fs::create_dir_all(web.join(".git")).unwrap();
    fs::create_dir_all(web.join("app")).unwrap();
    fs::create_dir_all(web.join(".well-known")).unwrap();
    fs::create_dir_all(folder.path().join("outside")).unwrap();
    for (file, text) in [
        ("outside/secret", "secret"),
        ("web-secret", "secret"),
        ("web/.htpasswd", "secret"),
        ("web/.git/config", "secret"),
        ("web/app/.env", "secret"),
        ("web/vnc.html", "page"),
        ("web/.well-known/security.txt", "page"),
    ] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    for (to, link) in [
        ("../outside/secret", "file.txt"),
        ("../outside", "linked"),
        ("/etc/hostname", "absolute.txt"),
        ("../web-secret", "prefix.txt"),
        ("absent", "dangling.txt"),
        ("loop.txt", "loop.txt"),
        ("../vnc.html", "app/inside.html"),
    ] {
        symlink(to, web.join(link)).unwrap();
    }
    assert!(Command::new("mkfifo").arg(web.join("pipe")).status().unwrap().success());
    let page = async |path: &str| send(public(app(), Some(&web)), get(path)).await;
    for path in [
        "/.htpasswd",
        "/%2ehtpasswd",
        "/%2Ehtpasswd",
        "//.htpasswd",
        "/./.htpasswd",
        "/app/../.htpasswd",
        "/app/%2e%2e/.htpasswd",
        "/app\\.env",
        "/app%5c.env",
        "/app%2f.env",
        "/app/.env",
        "/.git/config",
        "/.GIT/config",
        "/file.txt",
        "/linked/secret",
        "/linked%2fsecret",
        "/absolute.txt",
        "/prefix.txt",
        "/dangling.txt",
        "/loop.txt",
        "/pipe",
        "/%ff",
        "/a%00b",
    ] {
        let Ok(request) = axum::http::Request::get(path).body(axum::body::Body::empty()) else {
            continue;
        };
        let response = send(public(app(), Some(&web)), request).await;
        assert_eq!(response.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!String::from_utf8_lossy(&response.body).contains("secret"), "{path}");
    }
    for path in ["/vnc.html", "/app/inside.html", "/.well-known/security.txt"] {
        let response = page(path).await;
        assert_eq!((response.status, &*response.body), (StatusCode::OK, &b"page"[..]), "{path}");
    }
}
