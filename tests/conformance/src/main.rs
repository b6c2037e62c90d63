//! Runs the Autobahn WebSocket cases against a real Envoy with the shipped configuration, and the same
//! cases against `websockify`, the proxy that people use today.
//!
//! One case, from left to right:
//!
//! ```text
//! Autobahn ──WebSocket──▶ relay ──TLS──▶ Envoy + filter ──bytes──▶ echo server, which speaks first
//!                         relay ──────▶ websockify      ──bytes──▶ the same
//! ```
//!
//! - [`autobahn`] runs the cases (`autobahn.py`) in one of two readings: as published, or with text sent as
//!   binary and compared as bytes, since a console carries no text and keeps no message boundaries;
//! - [`relay`] begins each session as RFB begins, and adds TLS, which Autobahn's runner lacks;
//! - [`subject`] starts what is measured;
//! - [`verdict`] says what a gateway to a byte stream cannot do, and compares with `expected.json`;
//! - [`table`] prints.
//!
//! The exit status is 1 when an outcome differs from `expected.json` or a failure has no reason that is
//! known; `--accept` writes the outcomes to that file instead of comparing.

mod autobahn;
mod relay;
mod subject;
mod table;
mod verdict;

use autobahn::Reading;
use std::process::ExitCode;
use subject::{Gateway, Websockify};
use verdict::{Expected, Measured};

#[tokio::main]
async fn main() -> ExitCode {
    let accept = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--accept" => true,
        arguments => {
            eprintln!("usage: vncgate-conformance [--accept], not {arguments:?}");
            return ExitCode::from(64);
        }
    };
    let vncgate = measure(&Gateway::start().await.url(), autobahn::GROUPS).await;
    let websockify =
        measure(&Websockify::start().await.url(), autobahn::GROUPS_WITHOUT_LIMITS).await;
    table::print(&vncgate, &websockify);

    let outcomes = Expected::of(&vncgate);
    let mut faults = vncgate.failures();
    if accept {
        outcomes.write();
    } else {
        faults.extend(Expected::read().differences(&outcomes));
    }
    for fault in &faults {
        println!("{fault}");
    }
    println!("{} passed, {} failed", outcomes.len().saturating_sub(faults.len()), faults.len());
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(url: &str, groups: &[&str]) -> Measured {
    let published = autobahn::run(Reading::Published, url, groups).await;
    let bytes = autobahn::run(Reading::Bytes, url, groups).await;
    Measured { published, bytes }
}
