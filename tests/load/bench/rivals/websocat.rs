//! websocat, one process for cleartext and one for TLS. It has one thread.

use super::{Listening, Settings, listen, printed_version};
use anyhow::Result;
use std::process::Command;
use vncgate_load::connection::Transport::{Cleartext, Tls};
use vncgate_load::results::output;
use vncgate_test_support::workspace::cached;

pub(super) fn commands(settings: Settings<'_>) -> Result<Vec<Listening>> {
    let Settings { run, identity, target, .. } = settings;
    let server = |scheme: &str| {
        let address = listen();
        let mut command = program();
        // Each direction ends with its sender, and the console's connection with the client's.
        command.args(["--binary", "--exit-on-eof", "--server-protocol", "binary"]);
        command.args([format!("{scheme}:{address}"), format!("tcp:{target}")]);
        (command, address)
    };
    let (command, address) = server("ws-l");
    let cleartext = Listening { command, address, transports: &[Cleartext] };
    let (mut command, address) = server("wss-l");
    let archive = run.path("websocat.p12");
    let path = |path: &std::path::Path| path.display().to_string();
    output(
        "openssl",
        &[
            "pkcs12",
            "-export",
            "-passout",
            "pass:",
            "-in",
            &path(&identity.certificate),
            "-inkey",
            &path(&identity.key),
            "-out",
            &path(&archive),
        ],
    )?;
    command.arg("--pkcs12-der").arg(archive);
    Ok(vec![cleartext, Listening { command, address, transports: &[Tls] }])
}

pub(super) fn version() -> Result<String> {
    let mut command = program();
    command.arg("--version");
    printed_version(command)
}

fn program() -> Command {
    Command::new(cached("websocat/bin/websocat", "./justw _websocat"))
}
