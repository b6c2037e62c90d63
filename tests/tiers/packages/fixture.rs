//! A Debian to install into, and the packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::workspace::{cached, checkout};

/// The packages of this machine's architecture, the authority's first.
pub(crate) fn packages() -> [PathBuf; 2] {
    let folder = checkout().join("target/packages");
    let find = |name: &str, architecture: &str| {
        let of_name = |path: &PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            file.starts_with(&format!("{name}_")) && file.ends_with(&format!("_{architecture}.deb"))
        };
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let package = entries.map(|entry| entry.path()).find(of_name);
        package.unwrap_or_else(|| panic!("{name} is missing: `./justw packages` builds it"))
    };
    let architecture = run_to_end(Command::new("dpkg").arg("--print-architecture"));
    [find("vncgate-authority", architecture.trim()), find("vncgate-envoy", "all")]
}

/// The root file system of a Debian.
pub(crate) struct Debian(Run);

impl Debian {
    /// A Debian without the packages.
    pub(crate) fn new(name: &str) -> Self {
        let run = Run::new(name);
        let archive = cached("debian-root/root.tar", "./justw test-packages");
        std::fs::create_dir(run.path("root")).expect("make a root");
        run_to_end(
            Command::new("tar")
                .args(["--extract", "--exclude=./dev/*", "--file"])
                .arg(archive)
                .arg("--directory")
                .arg(run.path("root")),
        );
        Self(run)
    }

    /// A path in it, as this machine sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path("root").join(path.trim_start_matches('/'))
    }

    /// Copies a file into its root folder and returns the name there.
    pub(crate) fn add(&self, file: &Path) -> String {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        std::fs::copy(file, self.path(&name)).expect("copy into the root");
        name
    }

    /// Runs a command of the shell there and returns its output.
    pub(crate) fn run(&self, command: &str) -> String {
        // The machine's devices, in a mount namespace that ends with the command.
        let enter = r#"for it in dev proc; do mount --rbind "/$it" "$0/$it"; done; exec chroot "$0" sh -ec "cd /; $1""#;
        let mut chroot = Command::new("unshare");
        chroot.args(["--mount", "sh", "-ec", enter]).arg(self.path("/")).arg(command);
        chroot.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        // systemctl enables units, and does not look for a systemd that runs.
        chroot.env("SYSTEMD_OFFLINE", "1");
        run_to_end(chroot.env("DEBIAN_FRONTEND", "noninteractive"))
    }

    /// Whether a command of the shell succeeds there.
    pub(crate) fn succeeds(&self, command: &str) -> bool {
        self.run(&format!("if {command} >/dev/null 2>&1; then echo yes; fi")) == "yes\n"
    }
}
