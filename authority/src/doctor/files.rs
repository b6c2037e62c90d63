//! Listeners and files that work and should not stay as they are.

use super::report::Report;
use crate::config::Config;
use crate::http::listener::{ListenAddress, ListenerConfig};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bits of a file's mode by which others than its owner and group may read it (POSIX `S_IROTH`) or write it (`S_IWGRP`,
/// `S_IWOTH`).
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o022;

/// Looks at what the configuration names, without a connection.
pub fn look(config: &Config, report: &mut Report) {
    look_at_internal(&config.internal, report);
    for (name, listener) in
        [("public", &config.public), ("internal", &config.internal), ("metrics", &config.metrics)]
    {
        let ListenAddress::Unix(path) = &listener.address else { continue };
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            report.problem(
                "missing_folder",
                format!("{} of listen.{name} does not exist", folder.display()),
                "make the folder, as its owner the user that the authority runs as",
            );
        }
    }
    for vcenter in &config.vcenters {
        look_at_secret(vcenter.password.path(), report);
    }
    if let Some(keystone) = &config.auth.keystone {
        look_at_secret(keystone.password.path(), report);
    }
}

fn look_at_internal(listener: &ListenerConfig, report: &mut Report) {
    // With TLS it asks for a certificate.
    if let ListenerConfig { address: ListenAddress::Tcp(address), tls: None } = listener
        && address.ip().is_unspecified()
    {
        report.warn(
            "internal_everywhere",
            format!("listen.internal is {address}: every machine that reaches this one can try tokens there"),
            "listen on loopback or a Unix socket, or set [listen.internal_tls]",
        );
    }
}

fn look_at_secret(path: &Path, report: &mut Report) {
    let Ok(file) = std::fs::metadata(path) else { return };
    let mode = file.mode();
    if mode & (OTHERS_READ | OTHERS_WRITE) != 0 {
        report.warn(
            "open_secret",
            format!(
                "{} has the mode {:o}: others may read or write it",
                path.display(),
                mode & 0o777
            ),
            "chmod 600 it, and make the authority's user its owner",
        );
    }
}
