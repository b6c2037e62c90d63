//! Listeners and files that work and should not stay as they are.

use super::report::Report;
use crate::config::{Config, TokensConfig};
use crate::http::listener::{ListenAddress, ListenerConfig};
use crate::password::PasswordFile;
use crate::tls::expiry;
use crate::tls::pem::read_certificates;
use crate::tls::server::{ServerTls, ServerTlsFiles};
use crate::tokens::RedisTopology;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Bits of a file's mode by which others than its owner and group may read it (POSIX `S_IROTH`) or write it (`S_IWGRP`,
/// `S_IWOTH`).
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o022;

/// How long before its end a certificate is a warning, as in the alert `VncgateCertificateExpires`.
const CERTIFICATE_LEFT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
    // Listeners may share their files.
    let distinct = |paths: Vec<_>| -> BTreeSet<&Path> { paths.into_iter().collect() };
    for path in distinct(secrets(config).collect()) {
        look_at_secret(path, report);
    }
    for path in distinct(certificates(config).collect()) {
        look_at_certificate(path, report);
    }
}

/// The TLS of the listeners.
fn server_tls(config: &Config) -> impl Iterator<Item = &ServerTlsFiles> {
    let listeners = [&config.public, &config.internal, &config.metrics];
    listeners.into_iter().filter_map(|listener| listener.tls.as_ref()).map(ServerTls::files)
}

/// Files of passwords and keys.
fn secrets(config: &Config) -> impl Iterator<Item = &Path> {
    let mut passwords: Vec<&PasswordFile> = Vec::new();
    passwords.extend(config.vcenters.iter().map(|vcenter| &vcenter.password));
    passwords.extend(config.auth.keystone.as_ref().map(|keystone| &keystone.password));
    if let TokensConfig::Redis { server, .. } = &config.tokens {
        passwords.extend(&server.login.password);
        if let RedisTopology::Sentinel { login, .. } = &server.topology {
            passwords.extend(&login.password);
        }
    }
    let keys = server_tls(config).map(|files| files.key.as_path());
    let keys = keys.chain(config.sites.iter().map(|sites| sites.files.key.as_path()));
    passwords.into_iter().map(PasswordFile::path).chain(keys)
}

/// Files of the certificates that the authority shows.
fn certificates(config: &Config) -> impl Iterator<Item = &Path> {
    let own = server_tls(config).map(|files| files.certificate.as_path());
    own.chain(config.sites.iter().map(|sites| sites.files.certificate.as_path()))
}

fn look_at_certificate(path: &Path, report: &mut Report) {
    // A file that cannot be read is a problem of the configuration.
    let Ok(certificates) = read_certificates(path) else { return };
    let Some(end) = certificates.first().and_then(|first| expiry(first)) else { return };
    let path = path.display();
    let told = humantime::format_rfc3339_seconds(end);
    let mend = "renew it; the authority reads the file again by itself";
    match end.duration_since(SystemTime::now()) {
        Err(_) => report.problem("certificate", format!("{path} expired at {told}"), mend),
        Ok(left) if left < CERTIFICATE_LEFT => {
            report.warn("certificate", format!("{path} expires at {told}"), mend);
        }
        Ok(_) => report.good("certificate", format!("{path} is valid until {told}")),
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
