//! The service as the unit starts it, with the test in systemd's place.

use crate::fixture::{Debian, packages};
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use vncgate_test_support::authority::{Config, NO_GATEWAY};
use vncgate_test_support::certificate::{Ca, plain_http_client};
use vncgate_test_support::process::{Process, Run};
use vncgate_test_support::vcsim::{PASSWORD, Vcsim};
use vncgate_test_support::wait::{SLACK, until, until_some};

/// `WatchdogSec` of the test's unit.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The next message of the service, if there is one.
fn told(socket: &UnixDatagram) -> Option<String> {
    let mut message = [0; 256];
    let length = socket.recv(&mut message).ok()?;
    Some(String::from_utf8_lossy(&message[..length]).trim().to_owned())
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_alive_and_stopping() {
    let debian = Debian::new("debian-service");
    let [authority, _] = packages().map(|package| debian.add(&package));
    debian.run(&format!("dpkg --install {authority}"));
    let run = Run::new("service");
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    let host: IpAddr = "127.0.3.1".parse().expect("an address");
    vcenter.add_host(host);
    vcenter.create_vm("web-1", host, 5901);
    // LoadCredential=vcenter-a.password:...
    std::fs::create_dir(run.path("credentials")).expect("a folder");
    run.write("credentials/vcenter-a.password", PASSWORD);
    let password = |path: &str| format!("password_file = {path:?}");
    let config = Config::new(&run, &vcenter, NO_GATEWAY).with(
        &format!("\n{}", password("vcenter-a.password")),
        &format!("\n{}", password("${CREDENTIALS_DIRECTORY}/vcenter-a.password")),
    );
    let file = run.write("authority.toml", config.text());

    let socket = UnixDatagram::bind(run.path("notify")).expect("a socket");
    socket.set_nonblocking(true).expect("it does not block");
    let unit =
        std::fs::read_to_string(debian.path("/lib/systemd/system/vncgate-authority.service"));
    let unit = unit.expect("the unit");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("ExecStart");
    let start = start.replace("/etc/vncgate/authority.toml", &file.display().to_string());
    let mut words = start.split(' ');
    let program = debian.path(words.next().expect("the program"));
    let mut command = Command::new(program);
    command.args(words).env("NOTIFY_SOCKET", run.path("notify"));
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    command.env("CREDENTIALS_DIRECTORY", run.path("credentials"));
    let mut service = Process::start(&run, "authority", &command);

    let first = until_some("it is ready", async || told(&socket)).await;
    assert_eq!(first, "READY=1");
    let client = plain_http_client();
    let health = format!("http://{}/healthz", config.internal());
    assert_eq!(client.get(&health).send().await.expect("an answer").status(), 200);
    let ready = format!("http://{}/readyz", config.internal());
    until("the credential is good for vCenter", async || {
        client.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let alive = async || {
        let told = until_some("it says that it is alive", async || told(&socket)).await;
        assert_eq!(told, "WATCHDOG=1");
    };
    alive().await;
    let started = Instant::now();
    alive().await;
    alive().await;
    assert!(started.elapsed() < 2 * WATCHDOG + SLACK, "{:?}", started.elapsed());

    // One that hangs says nothing, so systemd starts it again.
    service.freeze();
    while told(&socket).is_some() {}
    sleep(WATCHDOG).await;
    assert_eq!(told(&socket), None);
    service.thaw();

    service.signal(Signal::SIGTERM);
    until("it is stopping", async || told(&socket).as_deref() == Some("STOPPING=1")).await;
    let status = until_some("it has ended", async || service.exit_status()).await;
    assert!(status.success(), "{status}");
}
