//! The whole path on this machine, for a person to try: `just demo`.
//!
//! Starts a simulated vCenter with one virtual machine, the authority and Envoy; asks the console API for
//! a console, as a portal would; prints the URL and waits. Ctrl-C ends every part.

use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};
use vncgate_test_support::authority::{Config, new_api_token};
use vncgate_test_support::console_api::API_TOKEN_SHA256;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::{Qemu, RfbServer};
use vncgate_test_support::workspace::free_address_of;

const VM_NAME: &str = "demo-vm";

#[tokio::main]
async fn main() {
    // The harness panics with a sentence for a person; where in its code it did so is of no use here.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("demo: {}", panic.payload_as_str().unwrap_or("a part could not start"));
    }));

    println!("demo: starting vCenter, authority and Envoy");
    // The token opens consoles, and other users of this machine can reach the demo's ports.
    let (token, sha256) = new_api_token("demo");
    let own_token = |config: Config| config.with(API_TOKEN_SHA256, &sha256);
    let gateway = Gateway::start_with("demo", own_token, &[]).await;
    let screen = Screen::start(&gateway.run).await;
    let address = screen.address();
    let vm = gateway.vcenter.create_vm(VM_NAME, address.ip(), address.port());

    let api = gateway.api().with_token(token);
    let console = api.console(&vm).await;
    println!(
        "
A portal asked the console API for a console of {VM_NAME}:

{curl}

and got this URL. Open it in a browser, and type into the console:

  {url}

Your browser will warn that it does not know the certificate: it is signed by a CA that this demo made,
  {ca}
The URL works for ten minutes; the curl command gives another one.

  screen     {screen}
  vCenter    {vcenter}
  ESXi host  {esxi}, its VNC port {port}
  logs       {logs}

Ctrl-C ends the demo.",
        curl = api.curl(&vm.instance_uuid, gateway.ca.path()),
        url = console.url,
        ca = gateway.ca.path().display(),
        screen = screen.description(),
        vcenter = gateway.vcenter.url(),
        esxi = address.ip(),
        port = address.port(),
        logs = gateway.run.path("").display(),
    );

    let mut terminate = signal(SignalKind::terminate()).expect("listen for SIGTERM");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.expect("listen for Ctrl-C"),
        _ = terminate.recv() => {}
    }
    println!("\ndemo: ending");
}

/// What the virtual machine shows.
enum Screen {
    Qemu(Qemu),
    Rfb(RfbServer),
}

impl Screen {
    async fn start(run: &Run) -> Self {
        let host = ESXI_HOSTS[0];
        if Qemu::is_installed() {
            Self::Qemu(Qemu::start(run, free_address_of(host)).await)
        } else {
            Self::Rfb(RfbServer::start(host).await)
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Qemu(qemu) => qemu.address(),
            Self::Rfb(server) => server.address(),
        }
    }

    fn description(&self) -> &'static str {
        match self {
            Self::Qemu(_) => "a QEMU guest that echoes what is typed",
            Self::Rfb(_) => "a small RFB server, since QEMU is not installed: a block for each key",
        }
    }
}
