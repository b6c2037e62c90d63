//! A Debian to install into, and the packages.

use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use vncgate_test_support::process::{Process, Run, run_to_end};
use vncgate_test_support::wait::until_some;
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

/// All packages that were built.
pub(crate) fn all_packages() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(checkout().join("target/packages"));
    let files =
        folder.expect("./justw packages builds them").map(|entry| entry.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect()
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

    /// Makes a package of version 99.0.0 there, otherwise like this one, and returns its name.
    pub(crate) fn next_version(&self, package: &str) -> String {
        let next = format!("next-{package}");
        self.run(&format!(
            "dpkg-deb --raw-extract {package} next
             sed -i 's/^Version: .*/Version: 99.0.0/' next/DEBIAN/control
             dpkg-deb --build -Znone next {next}
             rm -r next"
        ));
        next
    }
}

/// A Debian that runs: systemd is its first process, and what it starts ends with it. It has this machine's network.
pub(crate) struct Booted {
    /// Its files.
    pub(crate) debian: Debian,
    nspawn: Process,
    /// Its first process, as this machine numbers it.
    init: String,
}

impl Booted {
    /// Boots it, and waits until all of its units have started.
    pub(crate) async fn new(debian: Debian) -> Self {
        let mut command = Command::new("systemd-nspawn");
        // Without a systemd of this machine: it need have none.
        command.args(["--quiet", "--register=no", "--keep-unit", "--boot", "--directory"]);
        command.arg(debian.path("/"));
        let mut nspawn = Process::start(&debian.0, "systemd", &command);
        let id = nspawn.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let init = nspawn.ready(async || {
            let children = std::fs::read_to_string(&children).ok()?;
            let init = children.split_whitespace().next()?.to_owned();
            let state = enter(&init, "systemctl is-system-running").output().ok()?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            ["running", "degraded"].contains(&state.as_str()).then_some(init)
        });
        let init = init.await;
        Self { debian, nspawn, init }
    }

    /// Runs a command of the shell in it and returns its output.
    pub(crate) fn run(&self, command: &str) -> String {
        run_to_end(&mut enter(&self.init, command))
    }

    /// A property of the authority's service, as `systemctl show` has it.
    pub(crate) fn service(&self, property: &str) -> String {
        let shown = format!("systemctl show --property={property} --value vncgate-authority");
        self.run(&shown).trim().to_owned()
    }

    /// Shuts it down.
    pub(crate) async fn shut_down(mut self) {
        self.nspawn.signal(Signal::SIGTERM);
        until_some("it is shut down", async || self.nspawn.exit_status()).await;
    }
}

/// A command of the shell in the container with this first process.
fn enter(init: &str, command: &str) -> Command {
    let mut nsenter = Command::new("nsenter");
    nsenter.args([
        "--target", init, "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd",
    ]);
    nsenter.args(["sh", "-ec"]).arg(command);
    nsenter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    nsenter.env("DEBIAN_FRONTEND", "noninteractive");
    nsenter
}
