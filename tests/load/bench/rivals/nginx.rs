//! nginx before a host with WebMKS.

use super::{Listening, Settings, listen, printed_version};
use anyhow::Result;
use std::process::Command;
use vncgate_load::connection::Transport::Tls;

const PROGRAM: &str = "/usr/sbin/nginx";

pub(super) fn commands(settings: Settings<'_>) -> Vec<Listening> {
    let Settings { run, identity, ca, target, .. } = settings;
    let address = listen();
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    let (ca, files) = (ca.display(), run.path("nginx-files"));
    let files = files.display();
    // One process: the kernel ends it with the benchmark. A buffer holds a TLS record; each session has two of them as
    // long as it lasts.
    let config = format!(
        r"daemon off;
master_process off;
pid {files}.pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 18000; }}
http {{
    access_log off;
    client_body_temp_path {files}.body;
    proxy_temp_path {files}.proxy;
    fastcgi_temp_path {files}.fastcgi;
    uwsgi_temp_path {files}.uwsgi;
    scgi_temp_path {files}.scgi;
    server {{
        listen {address} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            proxy_pass https://{target};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
            proxy_read_timeout 8h;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {ca};
            proxy_ssl_name {host};
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            # As vncgate: each session's host shows its certificate.
            proxy_ssl_session_reuse off;
        }}
    }}
}}
",
        host = target.ip()
    );
    let mut command = Command::new(PROGRAM);
    command.args(["-e", "stderr", "-c"]).arg(run.write("nginx.conf", config));
    vec![Listening { command, address, transports: &[Tls] }]
}

pub(super) fn version() -> Result<String> {
    let mut command = Command::new(PROGRAM);
    command.arg("-v");
    printed_version(command)
}
