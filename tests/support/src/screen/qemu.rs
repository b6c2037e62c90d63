//! A virtual machine with a real screen: QEMU runs the boot sector of `tests/guest/boot.S`.

use crate::process::{Process, Run};
use crate::wait::until;
use crate::workspace::cached;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The port of VNC display 0; QEMU is told displays, not ports.
const FIRST_VNC_PORT: u16 = 5900;

/// The boot sectors of the guests, in the cache.
const SCREEN: &str = "guest/boot.img";
const SCAN_CODES: &str = "guest/scan_codes.img";

/// A running guest. Its screen is 720x400 pixels: a banner in blue (`#0000aa`), 48 pixels high, and below
/// it what was typed, in grey on black, from pixel row 64 on.
#[derive(Debug)]
pub struct Qemu {
    _process: Process,
    address: SocketAddr,
    debug_console: PathBuf,
}

impl Qemu {
    /// The executable's name on the `PATH`.
    pub const PROGRAM: &str = "qemu-system-x86_64";

    /// What the guest says of itself, in row [`Self::BANNER_ROW`] of its text screen.
    pub const BANNER: &str = "  vncgate demo guest: type something";

    /// Where the banner stands; the rows are counted from 0.
    pub const BANNER_ROW: usize = 1;

    /// Whether QEMU is installed.
    pub fn is_installed() -> bool {
        Command::new(Self::PROGRAM).arg("--version").output().is_ok()
    }

    /// Boots the guest with its VNC server at `address`, whose port must be 5900 or higher.
    ///
    /// # Panics
    ///
    /// When QEMU is not installed, naming the recipe that installs it.
    pub async fn start(run: &Run, address: SocketAddr) -> Self {
        Self::boot(run, address, SCREEN, &[], "").await
    }

    /// Boots the guest of `tests/guest/scan_codes.S`, which has no screen and tells the scan codes that it gets. With a
    /// `layout`, one of QEMU's keymaps, the VNC server knows keys by their keysyms on that keyboard alone, as an ESXi
    /// host does; without, it takes scan codes. The guest reads each key before the next one comes.
    pub async fn start_scan_codes(run: &Run, address: SocketAddr, layout: Option<&str>) -> Self {
        let layout = layout.into_iter().flat_map(|layout| ["-k", layout]);
        let arguments: Vec<&str> = layout.chain(["-icount", "shift=0"]).collect();
        let guest = Self::boot(run, address, SCAN_CODES, &arguments, ",key-delay-ms=1").await;
        until("a guest that listens", async || guest.debug_output().first() == Some(&0)).await;
        guest
    }

    /// What a guest of [`Self::start_scan_codes`] has got from its keyboard, in scan codes of set 1.
    ///
    /// # Panics
    ///
    /// For another guest, which has no such file.
    pub fn scan_codes(&self) -> Vec<u8> {
        self.debug_output().split_off(1)
    }

    fn debug_output(&self) -> Vec<u8> {
        std::fs::read(&self.debug_console).expect("the guest's debug console")
    }

    /// The same with VNC authentication (RFC 6143, 7.2.2). Only the first eight characters of the
    /// password count.
    pub async fn start_with_password(run: &Run, address: SocketAddr, password: &str) -> Self {
        let secret = format!("secret,id=vnc,data={password}");
        Self::boot(run, address, SCREEN, &["-object", &secret], ",password-secret=vnc").await
    }

    async fn boot(
        run: &Run,
        address: SocketAddr,
        sector: &str,
        arguments: &[&str],
        vnc: &str,
    ) -> Self {
        assert!(Self::is_installed(), "{} is missing: run `./justw setup`", Self::PROGRAM);
        let display = address.port().checked_sub(FIRST_VNC_PORT).expect("a VNC port");
        let sector = cached(sector, "./justw setup");
        let debug_console = run.path(&format!("qemu-{}.debugcon", address.port()));
        let mut command = Command::new(Self::PROGRAM);
        command
            .args(["-nodefaults", "-display", "none", "-vga", "std", "-m", "8"])
            .args(arguments)
            .arg("-debugcon")
            .arg(format!("file:{}", debug_console.display()))
            // The sector itself is never written: several guests boot from it.
            .arg("-drive")
            .arg(format!("file={},format=raw,if=ide,snapshot=on", sector.display()));
        // Viewers share the screen, as those of an ESXi host do.
        command.arg("-vnc").arg(format!("{}:{display},share=force-shared{vnc}", address.ip()));
        let mut process = Process::start(run, &format!("qemu-{}", address.port()), &command);
        process
            .ready(async || {
                greeting(address).await.ok().filter(|greeting| greeting == super::RFB_VERSION)
            })
            .await;
        Self { _process: process, address, debug_console }
    }

    /// Where its VNC server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn greeting(address: SocketAddr) -> std::io::Result<[u8; 12]> {
    let mut greeting = [0; 12];
    TcpStream::connect(address).await?.read_exact(&mut greeting).await?;
    Ok(greeting)
}
