//! What is measured: the gateway, and `websockify` beside it.

use crate::relay;
use std::process::Command;
use std::sync::Arc;
use tokio::net::TcpStream;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::scripted::{Script, ScriptedAuthority, ScriptedGateway};
use vncgate_test_support::websocket;
use vncgate_test_support::workspace::{cached, free_address};

/// Envoy with the shipped configuration and the built filter; an authority that grants every token the
/// same target, so that nothing but WebSocket decides an outcome.
pub(crate) struct Gateway {
    relay: TcpServer,
    _envoy: Arc<Envoy>,
    _authority: ScriptedAuthority,
    _target: TcpServer,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let target = relay::start_target().await;
        let script = Script::grant(target.address());
        let ScriptedGateway { envoy, authority } = ScriptedGateway::start(script, &[]).await;
        let envoy = Arc::new(envoy);
        let subject = Arc::clone(&envoy);
        let relay = relay::start(move || {
            let envoy = Arc::clone(&subject);
            async move { websocket::connect(&*envoy, &["http/1.1"]).await }
        })
        .await;
        Self { relay, _envoy: envoy, _authority: authority, _target: target }
    }

    pub(crate) fn url(&self) -> String {
        relay::url(self.relay.address())
    }
}

/// `websockify`, one process for each session.
pub(crate) struct Websockify {
    relay: TcpServer,
    _process: Process,
    _target: TcpServer,
}

impl Websockify {
    pub(crate) async fn start() -> Self {
        let run = Run::new("websockify");
        let target = relay::start_target().await;
        let address = free_address();
        let mut command = Command::new("python3");
        command
            .args(["-m", "websockify", &address.to_string(), &target.address().to_string()])
            .env("PYTHONPATH", cached("websockify", "./justw _websockify"));
        let mut process = Process::start(&run, "websockify", &command);
        process.ready(async || TcpStream::connect(address).await.ok()).await;
        let relay = relay::start(move || async move {
            TcpStream::connect(address).await.expect("websockify accepts connections")
        })
        .await;
        Self { relay, _process: process, _target: target }
    }

    pub(crate) fn url(&self) -> String {
        relay::url(self.relay.address())
    }
}
