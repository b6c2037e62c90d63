//! A registry of images, in memory.

use crate::process::{Process, Run, run_to_end};
use crate::workspace::cached;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
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

    /// Makes an image for linux/amd64 of files of this machine, each with its path in the image, and puts it into the
    /// registry. `options` are those of `crane mutate`. Returns the image's name there.
    pub fn pack(
        &self,
        run: &Run,
        name: &str,
        files: &[(PathBuf, String)],
        options: &[&str],
    ) -> String {
        let reference = format!("{}/{name}", self.address);
        let folder = TempDir::new_in(run.path(".")).expect("make a folder for the image");
        let tree = folder.path().join("tree");
        for (file, path) in files {
            let link = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(link.parent().expect("a folder")).expect("make a folder");
            symlink(file, link).expect("link a file");
        }
        let layer = folder.path().join("layer.tar");
        let mut tar = Command::new("tar");
        tar.args(["--create", "--dereference", "--owner=0", "--group=0", "--file"]).arg(&layer);
        run_to_end(tar.arg("--directory").arg(&tree).arg("."));
        let mut append = crane();
        append.args(["append", "--insecure", "--oci-empty-base", "--new_layer"]).arg(&layer);
        run_to_end(append.args(["--new_tag", &reference]));
        let mut mutate = crane();
        mutate.args(["mutate", "--insecure", "--set-platform", "linux/amd64"]).args(options);
        run_to_end(mutate.args(["--tag", &reference, &reference]));
        reference
    }

    /// The digest of an image's manifest, `sha256:HEX`.
    pub fn digest(&self, reference: &str) -> String {
        run_to_end(crane().args(["digest", "--insecure", reference])).trim().to_owned()
    }
}

fn crane() -> Command {
    Command::new(cached("crane/crane", "./justw _crane"))
}
