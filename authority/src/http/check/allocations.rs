//! What a check allocates. The figures are the same on every machine; a change that needs more raises the budget here and
//! says why.

use crate::http::internal;
use crate::http::testing::Setup;
use crate::tokens::{MemoryStore, Record, Token, TokenHash, TokenLimits, TokenStore};
use crate::vcenter::console_settings::Validation;
use crate::vcenter::reference::HostRef;
use crate::vcenter::watch::tests::fill_with_console;
use allocation_counter::{AllocationInfo, measure};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::json;
use std::io;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tower::ServiceExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use uuid::Uuid;

/// Allocations of a check that is granted from what was watched, from the request to the last byte of its answer: with a
/// twentieth to spare.
const CHECK_MAX: u64 = 78;
/// Their bytes, most of them of the futures that answer it.
const CHECK_BYTES_MAX: u64 = 14_500;

/// Checks before the one that is counted.
const WARM_UP: usize = 10;

const HOST: &str = "192.0.2.10";
const PORT: u16 = 5901;

/// A check that is granted.
async fn check(router: &Router, body: &'static str) {
    let request = Request::post("/v1/check").body(Body::from(body)).unwrap();
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    assert_eq!(head.status, StatusCode::OK, "{body:?}");
}

#[test]
fn a_check_allocates_what_it_did() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::sink);
    let lines = lines.with_filter(LevelFilter::INFO);
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
    let (router, body) = runtime.block_on(async {
        let store = Arc::new(MemoryStore::new(NonZeroUsize::MIN));
        let max_age = Duration::from_secs(60);
        let app = Setup {
            validation: Validation::Watched { max_age },
            store: Arc::clone(&store) as Arc<dyn TokenStore>,
            ..Setup::default()
        };
        let app = app.app();
        let instance = Uuid::from_u128(1);
        let vcenter = app.consoles.vcenters().by_service_host("vcenter-a").unwrap();
        fill_with_console(vcenter.watch(), instance, HOST, PORT);
        let record = Record {
            instance,
            host: HOST.to_owned(),
            host_reference: HostRef::from("host-1".to_owned()),
            vnc_port: NonZeroU16::new(PORT),
            machine_name: Some("tenant-a-web-frontend-1".to_owned()),
            caller: "keystone:4f1f8c1b2a7d4e0c9b3a5d6e7f801234".to_owned(),
            user: Some("alice@Default".to_owned()),
            project: Some("8d2f3a4b5c6d7e8f901a2b3c4d5e6f70".to_owned()),
            ..Record::for_tests()
        };
        let token = Token::random();
        let shown = token.reveal();
        let (lives, each) = (Duration::from_secs(600), NonZeroUsize::MIN);
        let limits = TokenLimits { per_caller: each, per_project: each };
        store.put(TokenHash::of(&shown), record, lives, limits).await.unwrap();
        let body = json!({
            "token": shown,
            "client_address": "203.0.113.7",
            "request_id": "9a0b1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3",
            "enforces_access": true,
        });
        let body: &'static str = body.to_string().leak();
        let router = internal(app);
        for _ in 0..WARM_UP {
            check(&router, body).await;
        }
        (router, body)
    });
    let AllocationInfo { count_total, bytes_total, bytes_current, .. } =
        measure(|| runtime.block_on(check(&router, body)));
    println!("{count_total} allocations, {bytes_total} bytes");
    assert!(count_total <= CHECK_MAX, "{count_total} allocations, and {CHECK_MAX} are allowed");
    assert!(bytes_total <= CHECK_BYTES_MAX, "{bytes_total} bytes of {CHECK_BYTES_MAX}");
    assert_eq!(bytes_current, 0, "a check keeps nothing");
    // Otherwise nothing was counted.
    assert!(count_total > CHECK_MAX / 2);
}
