//! websockify with its token file plugin. It forks for each connection, and tells TLS from cleartext by the first byte.

use super::{Listening, Settings, listen, printed_version};
use anyhow::Result;
use std::process::Command;
use vncgate_load::connection::Transport::{Cleartext, Tls};
use vncgate_test_support::workspace::cached;

pub(super) fn commands(settings: Settings<'_>) -> Vec<Listening> {
    let Settings { run, identity, target, token, .. } = settings;
    let address = listen();
    let tokens = run.write("websockify-tokens", format!("{token}: {target}\n"));
    let mut command = python();
    command.args(["-m", "websockify"]);
    command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key);
    command.args(["--token-plugin", "TokenFile", "--token-source"]).arg(tokens);
    command.arg(address.to_string());
    vec![Listening { command, address, transports: &[Cleartext, Tls] }]
}

pub(super) fn version() -> Result<String> {
    let mut command = python();
    command.args(["-c", "import importlib.metadata as m; print(m.version('websockify'))"]);
    printed_version(command)
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", cached("websockify", "./justw _websockify"));
    command
}
