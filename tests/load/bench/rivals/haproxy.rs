//! HAProxy before a host with WebMKS.

use super::{Listening, Settings, listen};
use anyhow::{Context, Result};
use std::fs;
use std::process::Command;
use vncgate_load::connection::Transport::{Tls, TlsHttp2};
use vncgate_load::results::output;

const PROGRAM: &str = "/usr/sbin/haproxy";

pub(super) fn commands(settings: Settings<'_>) -> Result<Vec<Listening>> {
    let Settings { run, identity, ca, target, .. } = settings;
    let address = listen();
    // It wants both in one file.
    let read = |file| fs::read_to_string(file).context("read the proxies' certificate");
    let both = read(&identity.certificate)? + &read(&identity.key)?;
    let both = run.write("haproxy.pem", both);
    let (both, ca) = (both.display(), ca.display());
    let config = format!(
        r"global
    nbthread 1
    maxconn 8000
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 8h
frontend webmks
    bind {address} ssl crt {both} alpn h2,http/1.1
    default_backend host
backend host
    # As vncgate: each session has a connection of its own, and its host shows its certificate.
    http-reuse never
    server host {target} ssl verify required ca-file {ca} verifyhost {host} no-ssl-reuse
",
        host = target.ip()
    );
    let mut command = Command::new(PROGRAM);
    command.arg("-db").arg("-f").arg(run.write("haproxy.cfg", config));
    Ok(vec![Listening { command, address, transports: &[Tls, TlsHttp2] }])
}

pub(super) fn version() -> Result<String> {
    // "HAProxy version 2.6.12-1+deb12u4 2025/10/03 - https://haproxy.org/"
    let text = output(PROGRAM, &["-v"])?;
    let version = text.split_whitespace().nth(2).context("a version of HAProxy")?;
    Ok(version.to_owned())
}
