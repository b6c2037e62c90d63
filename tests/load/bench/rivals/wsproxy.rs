//! wsproxy, one process for cleartext and one for TLS.

use super::{Listening, Settings, listen};
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;
use vncgate_load::connection::Transport::{Cleartext, Tls};
use vncgate_test_support::workspace::cached;

pub(super) fn commands(settings: Settings<'_>) -> Vec<Listening> {
    let Settings { identity, target, .. } = settings;
    let server = || {
        let address = listen();
        let mut command = program();
        command.args(["server", "--listen", &address.to_string()]);
        command.args(["--default-target", &target.to_string()]);
        // tokio's; otherwise as many as there are cores.
        command.env("TOKIO_WORKER_THREADS", "1");
        (command, address)
    };
    let (command, address) = server();
    let cleartext = Listening { command, address, transports: &[Cleartext] };
    let (mut command, address) = server();
    command.arg("--tls-cert").arg(&identity.certificate).arg("--tls-key").arg(&identity.key);
    vec![cleartext, Listening { command, address, transports: &[Tls] }]
}

/// As cargo has noted it: the program does not tell.
pub(super) fn version() -> Result<String> {
    let note = cached("wsproxy/.crates.toml", "./justw _wsproxy");
    let note = fs::read_to_string(note).context("read what cargo installed")?;
    // "wsproxy 0.1.3 (registry+...)" = ["wsproxy"]
    let version =
        note.split_once("\"wsproxy ").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(version.context("a version of wsproxy")?.to_owned())
}

fn program() -> Command {
    Command::new(cached("wsproxy/bin/wsproxy", "./justw _wsproxy"))
}
