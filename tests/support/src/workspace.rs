//! Where things are: the checkout, what was built, what set-up downloaded, and free TCP ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("two folders below the checkout")
}

/// The built filter, a WebAssembly module.
pub fn filter() -> PathBuf {
    required(
        target_directory().join("wasm32-unknown-unknown/filter/vncgate_filter.wasm"),
        "./justw build",
    )
}

/// A custom section (WebAssembly core specification, 5.5.3) of two bytes: its name `n`, of one byte.
const CUSTOM_SECTION: [u8; 4] = [0, 2, 1, b'n'];

/// The built filter as another module: it does the same and has another digest.
pub fn another_filter() -> Vec<u8> {
    let mut module = std::fs::read(filter()).expect("the built filter");
    module.extend(CUSTOM_SECTION);
    module
}

/// The built authority.
pub fn authority() -> PathBuf {
    required(profile_directory().join("vncgate-authority"), "./justw build")
}

/// A built image, an OCI layout: `authority` or `filter`.
pub fn image(name: &str) -> PathBuf {
    required(checkout().join("target/images").join(name), "./justw images")
}

/// Something that set-up put below `.cache/`.
///
/// # Panics
///
/// When it is missing, naming the recipe that installs it.
pub fn cached(path: &str, recipe: &str) -> PathBuf {
    required(checkout().join(".cache").join(path), recipe)
}

/// A TCP port of `address` that nothing listens on and that no other call returns.
///
/// The ports lie below Linux's ephemeral range, so that no outgoing connection takes one meanwhile,
/// and start at a port that depends on the process, so that two test binaries rarely meet.
pub fn free_port(address: IpAddr) -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let spread = std::process::id().wrapping_mul(199) % u32::from(COUNT);
        AtomicU16::new(u16::try_from(spread).expect("less than COUNT"))
    });
    (0..COUNT)
        .map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT)
        .find(|&port| TcpListener::bind((address, port)).is_ok())
        .expect("a free TCP port on a loopback address")
}

/// An address on `127.0.0.1` with a port of [`free_port`].
pub fn free_address() -> SocketAddr {
    free_address_of(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The same on another address of this machine.
pub fn free_address_of(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, free_port(ip))
}

fn required(path: PathBuf, recipe: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `{recipe}`", path.display());
    path
}

/// Cargo's target directory, wherever the person running this has put it.
fn target_directory() -> PathBuf {
    profile_directory().parent().expect("the profile is below the target directory").to_owned()
}

/// `target/debug`: test binaries run from its `deps`, the demo from itself.
fn profile_directory() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let directory = program.parent().expect("a program is in a directory");
    if directory.ends_with("deps") {
        directory.parent().expect("deps is below the profile's directory").to_owned()
    } else {
        directory.to_owned()
    }
}
