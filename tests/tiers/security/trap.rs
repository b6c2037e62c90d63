//! A filter that traps admits no client, and the next request is served by a fresh one.
//!
//! The filter has no known way to trap, so the built one is given one: callbacks that execute `unreachable`
//! when a certain argument is large, and are the filter's own otherwise.

use crate::fixture::{ESXI, raw_answer, status_of};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::scripted::Script;
use vncgate_test_support::scripted::{ScriptedGateway, TOKEN};
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::wait::{until_some, within};
use vncgate_test_support::workspace;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module,
};
use wasmparser::{Parser, Payload, TypeRef};

/// Callbacks of proxy-wasm 0.2.1, all their arguments, the argument that decides, and from which value on
/// it traps.
const TRAPS: [(&str, u32, u32, i32); 3] = [
    ("proxy_on_request_headers", 3, 1, TRAPPING_HEADERS),
    ("proxy_on_http_call_response", 5, 3, TRAPPING_ANSWER),
    ("proxy_on_request_body", 3, 1, TRAPPING_CHUNK),
];

/// Headers of a request; a browser sends some twenty.
const TRAPPING_HEADERS: i32 = 60;
/// Bytes of the authority's answer; a grant has some 250.
const TRAPPING_ANSWER: i32 = 3000;
/// Bytes from a browser at once.
const TRAPPING_CHUNK: i32 = 3000;

/// How long a refused browser waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// More than there are workers, so that each of them has trapped.
const TRIES: usize = 6;

#[tokio::test]
async fn a_trap_admits_nobody_and_the_next_request_is_served() {
    let run = Run::new("trap");
    let filter = std::fs::read(workspace::filter()).expect("read the filter");
    let trapping = run.write("trapping.wasm", with_traps(&filter));
    let shipped = workspace::filter().display().to_string();
    let changes = [
        (shipped.as_str(), trapping.display().to_string()),
        // A session that still counted after its trap would keep the next one out.
        (r#""allowed_origins": []"#, r#""sessions_per_client": 1"#.to_owned()),
    ];
    let ScriptedGateway { envoy, authority } =
        ScriptedGateway::start(Script::Silence, &changes).await;
    let console = TcpServer::echo(ESXI).await;
    let grant = Script::session("session-before-a-trap", console.address());
    let last_session = RefCell::new(String::new());
    let known = async |session: &str| {
        until_some("a report of the session", async || authority.reports.open().remove(session))
            .await
    };
    let serves = async || {
        let session = Uuid::new_v4().to_string();
        authority.follow(Script::session(&session, console.address()));
        last_session.replace(session);
        // A worker whose filter has trapped refuses for a moment, lest it start one after another.
        let mut browser = until_some("a session by a fresh filter", async || {
            let answer = envoy.send(TOKEN).await;
            // Nor has Envoy always heard already that the last browser has gone.
            let is_expected = matches!(answer.status, 101 | 429 | 500 | 503);
            assert!(is_expected, "{} {}", answer.status, answer.body);
            if answer.status == 101 { Some(answer.into_websocket().await) } else { None }
        })
        .await;
        assert_echoes(&mut browser, "typed").await;
        browser
    };
    serves().await;
    assert!(!envoy.has_trapped(), "what browsers send does not trap");

    // Before the check, and with a token that it would grant.
    let headers = "X-Many: x\r\n".repeat(TRAPPING_HEADERS.unsigned_abs() as usize);
    assert_refuses(&envoy, &console, &headers).await;
    assert_trapped_in(&envoy, "proxy_on_request_headers");
    serves().await;

    // When the authority has answered with a grant.
    let Script::Answer(status, mut granted) = grant.clone() else { unreachable!("a grant") };
    granted["session"] = json!("s".repeat(TRAPPING_ANSWER.unsigned_abs() as usize));
    authority.follow(Script::Answer(status, granted));
    assert_refuses(&envoy, &console, "").await;
    assert_trapped_in(&envoy, "proxy_on_http_call_response");
    serves().await;

    // In a session: it ends, and the console gets nothing more.
    for _ in 0..TRIES {
        let mut browser = serves().await;
        let session = last_session.borrow().clone();
        known(&session).await;
        let chunk = vec![b'x'; 2 * TRAPPING_CHUNK.unsigned_abs() as usize];
        browser.send(Message::binary(chunk)).await.expect("send");
        match within("the end of the session", browser.next()).await {
            None | Some(Err(_) | Ok(Message::Close(_))) => {}
            Some(Ok(message)) => panic!("after a trap: {message:?}"),
        }
    }
    assert_trapped_in(&envoy, "proxy_on_request_body");

    // A fresh filter reports what it has, as a worker of its own. Nobody reports the sessions that ended with a trap.
    let _browser = serves().await;
    let session = last_session.take();
    let known =
        until_some("a report of the session", async || authority.reports.open().remove(&session))
            .await;
    let others =
        authority.reports.open().into_values().filter(|other| other.session != known.session);
    let gone: Vec<String> = others.map(|other| other.worker).collect();
    assert!(!gone.is_empty() && !gone.contains(&known.worker), "{gone:?}, {}", known.worker);
}

#[track_caller]
fn assert_trapped_in(envoy: &Envoy, callback: &str) {
    assert!(envoy.log().contains(&format!("Function: {callback} failed")), "no trap in {callback}");
}

/// Asserts that upgrades are refused, or get no answer at all, and that no console hears of them.
async fn assert_refuses(envoy: &Envoy, console: &TcpServer, headers: &str) {
    let before = console.accepted();
    for _ in 0..TRIES {
        for token in [format!("?token={TOKEN}"), String::new()] {
            let request = format!(
                "GET /websockify{token} HTTP/1.1\r\nHost: {0}\r\nOrigin: https://{0}\r\n\
                 Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
                envoy.address()
            );
            // Envoy leaves a request that the filter has paused, and then trapped, to the idle timeout.
            let answer = timeout(ANSWER_TIMEOUT, raw_answer(envoy, &request)).await;
            let status = answer.as_deref().map_or(0, status_of);
            assert!(matches!(status, 0 | 403 | 500 | 503), "{answer:?}");
        }
    }
    assert_eq!(console.accepted(), before, "no console was connected to");
}

/// The module with [`TRAPS`] in its callbacks.
fn with_traps(module: &[u8]) -> Vec<u8> {
    let mut traps = Traps::read(module);
    let mut changed = Module::new();
    traps
        .parse_core_module(&mut changed, Parser::new(0), module)
        .expect("a module like the filter");
    changed.finish()
}

/// The module's numbers: its callbacks become functions after its last one, which call what they replace.
#[derive(Default)]
struct Traps {
    imported: u32,
    /// Index of the type of each function that is not imported.
    types: Vec<u32>,
    callbacks: HashMap<String, u32>,
}

impl Traps {
    fn read(module: &[u8]) -> Self {
        let mut read = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.expect("a valid module") {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.expect("an import");
                        read.imported += u32::from(matches!(import.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(functions) => {
                    read.types = functions.into_iter().map(|ty| ty.expect("a type")).collect();
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.expect("an export");
                        read.callbacks.insert(export.name.to_owned(), export.index);
                    }
                }
                _ => {}
            }
        }
        read
    }

    /// The function that a callback was before.
    fn replaced(&self, callback: &str) -> u32 {
        self.callbacks[callback]
    }

    /// The function that it is now.
    fn replacement(&self, trap: usize) -> u32 {
        self.imported + u32::try_from(self.types.len() + trap).expect("few functions")
    }
}

impl Reencode for Traps {
    type Error = Infallible;

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        for (callback, ..) in TRAPS {
            let defined = (self.replaced(callback) - self.imported) as usize;
            functions.function(self.types[defined]);
        }
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Result<(), Error<Infallible>> {
        match TRAPS.iter().position(|(callback, ..)| *callback == export.name) {
            None => utils::parse_export(self, exports, export)?,
            Some(trap) => {
                exports.export(export.name, ExportKind::Func, self.replacement(trap));
            }
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        for (callback, arguments, decisive, from) in TRAPS {
            let mut function = Function::new([]);
            let mut body = function.instructions();
            body.local_get(decisive).i32_const(from).i32_ge_u();
            body.if_(BlockType::Empty).unreachable().end();
            (0..arguments).for_each(|argument| {
                body.local_get(argument);
            });
            body.call(self.replaced(callback)).end();
            code.function(&function);
        }
        Ok(())
    }
}
