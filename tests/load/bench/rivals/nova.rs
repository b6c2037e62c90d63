//! nova's console proxy, as `tests/openstack/nova_novncproxy.py` starts it: with its lookup of tokens stubbed.

use super::{Listening, Settings, listen, printed_version};
use anyhow::Result;
use std::process::Command;
use vncgate_load::connection::Transport::{Cleartext, Tls};
use vncgate_test_support::workspace::{cached, checkout};

pub(super) fn commands(settings: Settings<'_>) -> Vec<Listening> {
    let Settings { identity, target, .. } = settings;
    let address = listen();
    let mut command = python();
    command.arg(checkout().join("tests/openstack/nova_novncproxy.py"));
    command.args([address.to_string(), target.to_string()]);
    command.arg(&identity.certificate).arg(&identity.key);
    vec![Listening { command, address, transports: &[Cleartext, Tls] }]
}

pub(super) fn version() -> Result<String> {
    let mut command = python();
    command.args(["-c", "import importlib.metadata as m; print(m.version('nova'))"]);
    printed_version(command)
}

fn python() -> Command {
    // What nova imports is in the folders of others, too.
    let homes = [("nova", "_nova"), ("horizon", "_horizon"), ("openstack", "_openstack")];
    let homes = homes.iter().chain(&[("websockify", "_websockify")]);
    let homes = homes.map(|(name, recipe)| cached(name, &format!("./justw {recipe}")));
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", std::env::join_paths(homes).expect("no colon in a path"));
    command
}
