//! A registry of images, in memory.

use crate::process::{Process, Run, run_to_end};
use crate::workspace::cached;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tokio::net::TcpStream;

/// A running registry, which speaks HTTP without TLS.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    _process: Process,
}

impl Registry {
    /// Starts one that listens on all addresses at the port of `address`, and is reached at `address`.
    pub async fn start(run: &Run, address: SocketAddr) -> Self {
        let mut command = crane();
        command.args(["registry", "serve", "--address", &format!("0.0.0.0:{}", address.port())]);
        let mut process = Process::start(run, "registry", &command);
        process.ready(async || TcpStream::connect(address).await.ok().map(drop)).await;
        Self { address, _process: process }
    }

    /// Puts an image, an OCI layout, into the registry. Returns its name there.
    pub fn push(&self, layout: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.address);
        run_to_end(crane().args(["push", "--insecure"]).arg(layout).arg(&reference));
        reference
    }

    /// Puts a file as the one layer of a new image into the registry. Returns the image's name there.
    pub fn pack(&self, layer: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.address);
        let mut append = crane();
        append.args(["append", "--insecure", "--oci-empty-base", "--new_layer"]).arg(layer);
        run_to_end(append.args(["--new_tag", &reference]));
        reference
    }

    /// Changes an image in place by options of `crane mutate`.
    pub fn mutate(&self, reference: &str, options: &[&str]) {
        let mut mutate = crane();
        mutate.args(["mutate", "--insecure", "--tag", reference]).args(options).arg(reference);
        run_to_end(&mut mutate);
    }

    /// The digest of an image's manifest, `sha256:HEX`.
    pub fn digest(&self, reference: &str) -> String {
        run_to_end(crane().args(["digest", "--insecure", reference])).trim().to_owned()
    }
}

fn crane() -> Command {
    Command::new(cached("crane/crane", "./justw _crane"))
}
