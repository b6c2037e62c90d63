//! A Debian that runs: installation by the commands of docs/install.md to the first console, upgrade and removal under an
//! open one, and what systemd does about a bad configuration and a service that dies.

use crate::fixture::{Booted, Debian, packages};
use crate::package::documented_commands;
use std::net::IpAddr;
use tokio::net::TcpStream;
use vncgate_test_support::authority::Config;
use vncgate_test_support::certificate::{Ca, plain_http_client};
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::envoy;
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::{RfbServer, TcpServer};
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::template::substitute;
use vncgate_test_support::vcsim::{PASSWORD, Vcsim};
use vncgate_test_support::wait::until;
use vncgate_test_support::websocket::{Frontend, Upgrade};
use vncgate_test_support::workspace::free_address;

const CONFIG: &str = "/etc/vncgate/authority.toml";

/// A command as a portal's operator gives it: with the API token, and to the port that the authority has here.
fn of_a_portal(config: &Config, command: &str) -> String {
    format!("VNCGATE_API_TOKEN={API_TOKEN} VNCGATE_URL=http://{} {command}", config.public())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_lead_to_a_console_that_outlives_an_upgrade_and_a_removal() {
    let debian = Debian::new("debian-systemd");
    let [package, _] = packages().map(|package| debian.add(&package));
    let next = debian.next_version(&package);
    std::fs::copy(envoy::binary(), debian.path("/usr/bin/envoy")).expect("an Envoy");
    let run = Run::new("debian-systemd-parts");
    let ca = Ca::new(&run);
    let identity = ca.issue("envoy");
    for (file, name) in [(&identity.certificate, "/tls.crt"), (&identity.key, "/tls.key")] {
        std::fs::copy(file, debian.path(name)).expect("Envoy's certificate");
    }
    std::fs::write(debian.path("/password"), format!("{PASSWORD}\n")).expect("a password");
    let debian = Booted::new(debian).await;
    let vcenter = Vcsim::start(&run, &ca).await;
    let host: IpAddr = "127.0.3.2".parse().expect("an address");
    vcenter.add_host(host);
    vcenter.remove_template_host();
    let screen = RfbServer::start(host).await;
    let echo = TcpServer::echo(host).await;
    vcenter.create_vm("web-1", host, screen.address().port());
    let echoing = vcenter.create_vm("echo-1", host, echo.address().port());
    let (listen, admin) = (free_address(), free_address());
    let config = Config::new(&run, &vcenter, &format!("https://{listen}"));
    let ports = [
        ("address: 0.0.0.0, port_value: 443", listen),
        ("address: 127.0.0.1, port_value: 9901", admin),
        ("address: 127.0.0.1, port_value: 6082", config.public()),
        ("address: 127.0.0.1, port_value: 6083", config.internal()),
    ];
    let ports = ports.map(|(shipped, address)| {
        (shipped, format!("address: {}, port_value: {}", address.ip(), address.port()))
    });

    let commands = documented_commands();
    assert!(commands.len() > 12, "{commands:?}");
    let mut said = String::new();
    for command in &commands {
        // The shipped ports may be another test's on this machine.
        let command = command
            .replace("http://127.0.0.1:9901", &format!("http://{admin}"))
            .replace("127.0.0.1:6085", &config.metrics().to_string());
        match command.split(' ').next() {
            // What a person writes there: their vCenter, their API token.
            Some("editor") if command.ends_with("authority.toml") => {
                std::fs::write(debian.debian.path(CONFIG), config.text()).expect("write it");
                std::fs::copy(ca.path(), debian.debian.path("/etc/vncgate/ca.pem"))
                    .expect("vCenter's certificate authority");
            }
            Some("editor") => {
                let file = debian.debian.path("/etc/vncgate/envoy.yaml");
                let shipped = std::fs::read_to_string(&file).expect("the shipped file");
                std::fs::write(file, substitute(&shipped, &ports)).expect("write it");
            }
            Some("curl") => {
                let url = command.split(' ').nth(1).expect("a URL");
                until("it is ready", async || {
                    let answer = plain_http_client().get(url).send().await;
                    answer.is_ok_and(|answer| answer.status() == 200)
                })
                .await;
            }
            Some("export") => {}
            Some("vncgate-authority") if command.contains(" --vm ") => {
                until("Envoy is there", async || TcpStream::connect(listen).await.is_ok()).await;
                said = debian.run(&of_a_portal(&config, &command));
            }
            Some("vncgate-authority") => said = debian.run(&of_a_portal(&config, &command)),
            _ => drop(debian.run(&format!("cd /; {{ {command}; }} </password"))),
        }
    }
    assert!(said.contains("token_granted: ") && !said.contains("PROBLEM"), "{said}");
    for unit in ["vncgate-authority", "vncgate-envoy"] {
        let link = format!("/etc/systemd/system/multi-user.target.wants/{unit}.service");
        assert!(debian.debian.path(&link).is_symlink(), "{unit} is enabled");
    }
    for file in [CONFIG, "/etc/vncgate/vcenter-a.password"] {
        assert_eq!(debian.run(&format!("stat --format='%U %G %a' {file}")), "root vncgate 640\n");
        debian
            .run(&format!("runuser -u vncgate -- cat {file} && ! runuser -u nobody -- cat {file}"));
    }
    assert_eq!(debian.service("ActiveState"), "active");

    let console = format!("vncgate-authority console {}", echoing.name);
    let url = debian.run(&of_a_portal(&config, &console));
    let (_, token) = url.trim().rsplit_once("token=").expect("a token");
    let gateway = Frontend { address: listen, name: None, ca: ca.clone() };
    let mut console = Upgrade::with_token(gateway, token).open().await;
    assert_echoes(&mut console, "the first").await;

    let restarted = async |before: &str, what: &str| {
        until(what, async || {
            debian.service("ActiveState") == "active" && debian.service("MainPID") != before
        })
        .await;
    };
    // An upgrade starts the new version, and a death the same one again.
    let before = debian.service("MainPID");
    debian.run(&format!("dpkg --install {next}"));
    restarted(&before, "the new version runs").await;
    assert_echoes(&mut console, "after the upgrade").await;
    let before = debian.service("MainPID");
    debian.run(&format!("kill -KILL {before}"));
    restarted(&before, "it runs again").await;

    // A reload, a bad configuration: refused while it runs, and final at a start.
    let log = || debian.run("journalctl --no-pager --unit vncgate-authority");
    debian.run("systemctl reload vncgate-authority");
    until("it was reloaded", async || log().contains("the configuration was reloaded")).await;
    debian.run(&format!(
        "mv {CONFIG} {CONFIG}.good; echo '[consol]' >{CONFIG}; chgrp vncgate {CONFIG}"
    ));
    debian.run("! systemctl restart vncgate-authority");
    until("it has failed", async || debian.service("ActiveState") == "failed").await;
    assert_eq!(debian.service("ExecMainStatus"), "64");
    assert!(log().contains("consol: "), "{}", log());
    debian.run(&format!("mv {CONFIG}.good {CONFIG}"));

    // The password as a credential.
    let file = "password_file = \"vcenter-a.password\"";
    let credential = "password_file = \"${CREDENTIALS_DIRECTORY}/vcenter-a.password\"";
    debian.run(&format!(
        "cd /etc/vncgate && install -m 600 vcenter-a.password /etc/credential && rm vcenter-a.password
         mkdir /etc/systemd/system/vncgate-authority.service.d
         printf '[Service]\\nLoadCredential=vcenter-a.password:/etc/credential\\n' \
             >/etc/systemd/system/vncgate-authority.service.d/credential.conf
         sed -i 's|^{file}|{credential}|' {CONFIG}
         systemctl daemon-reload && systemctl restart vncgate-authority"
    ));
    let issued = debian.run(&of_a_portal(&config, "vncgate-authority console web-1"));
    assert!(issued.contains("token="), "{issued}");

    debian.run("dpkg --remove vncgate-authority");
    assert_eq!(debian.run("systemctl is-active vncgate-authority || true").trim(), "inactive");
    assert_echoes(&mut console, "without the authority").await;
    debian.shut_down().await;
}
