//! Installation by the commands of docs/install.md, upgrade, removal, and the unit.

use crate::fixture::{Debian, packages};
use std::process::Command;
use vncgate_test_support::console_api::API_TOKEN_SHA256;
use vncgate_test_support::process::run_to_end;
use vncgate_test_support::workspace::checkout;

const CONFIG: &str = "/etc/vncgate/authority.toml";

/// The commands of "Debian and systemd" in docs/install.md.
fn documented_commands() -> Vec<String> {
    let page = std::fs::read_to_string(checkout().join("docs/install.md")).expect("the page");
    let section = page.split("\n## Debian and systemd\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("the text of the section");
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[test]
fn the_documented_commands_install_the_service() {
    let debian = Debian::new("debian-install");
    for package in packages() {
        debian.add(&package);
    }
    let commands = documented_commands();
    assert!(commands.len() > 6, "{commands:?}");
    for command in &commands {
        match command.split(' ').next() {
            // What a person does there: an API token of their own, the names of their vCenter.
            Some("editor") => {
                let text = debian.run(&format!("cat {CONFIG}"));
                let text = text.replace(&"0".repeat(64), API_TOKEN_SHA256);
                let text = text.replace("ca_file = \"vcenter-a-ca.pem\"", "");
                std::fs::write(debian.path(CONFIG), text).expect("write the configuration");
            }
            Some("curl") => {}
            _ => drop(debian.run(&format!("echo 'a password' | {{ {command}; }}"))),
        }
    }
    let unit = "/etc/systemd/system/multi-user.target.wants/vncgate-authority.service";
    assert!(debian.path(unit).is_symlink(), "it is enabled");
    for file in [CONFIG, "/etc/vncgate/vcenter-a.password"] {
        assert_eq!(debian.run(&format!("stat --format='%U %G %a' {file}")), "root vncgate 640\n");
        assert!(debian.succeeds(&format!("runuser -u vncgate -- cat {file}")));
        assert!(!debian.succeeds(&format!("runuser -u nobody -- cat {file}")));
    }
    let envoy = debian.run("cat /etc/vncgate/envoy.yaml");
    let filter = "/usr/lib/vncgate/vncgate_filter.wasm";
    assert!(envoy.contains(filter) && debian.path(filter).exists());
    assert_eq!(debian.run("dpkg --verify vncgate-envoy"), "");
}

#[test]
fn an_upgrade_keeps_the_configuration_and_a_purge_keeps_passwords() {
    let debian = Debian::new("debian-upgrade");
    let [authority, envoy] = packages().map(|package| debian.add(&package));
    debian.run(&format!("dpkg --install {authority} {envoy}"));
    assert_eq!(debian.run("dpkg --verify vncgate-authority vncgate-envoy"), "");
    debian.run(&format!("chgrp adm {CONFIG}; echo '# ours' >>{CONFIG}"));
    for package in [&authority, &envoy] {
        debian.run(&format!(
            "dpkg-deb --raw-extract {package} next
             sed -i 's/^Version: .*/Version: 99.0.0/' next/DEBIAN/control
             dpkg-deb --build -Znone next next.deb
             dpkg --install next.deb
             rm -r next next.deb"
        ));
    }
    let version = debian.run("dpkg-query --show --showformat='${Version}' vncgate-authority");
    assert_eq!(version, "99.0.0");
    assert!(debian.run(&format!("tail -n 1 {CONFIG}")).contains("# ours"));
    assert_eq!(debian.run(&format!("stat --format=%G {CONFIG}")), "adm\n", "an administrator's");

    debian.run("dpkg --remove vncgate-authority vncgate-envoy");
    assert!(!debian.path("/usr/bin/vncgate-authority").exists());
    assert!(debian.path(CONFIG).exists() && debian.path("/etc/vncgate/envoy.yaml").exists());
    debian.run("echo secret >/etc/vncgate/vcenter-a.password");
    debian.run("dpkg --purge vncgate-authority vncgate-envoy");
    assert_eq!(debian.run("ls /etc/vncgate"), "vcenter-a.password\n");
}

#[test]
fn the_unit_is_right_and_confined() {
    let debian = Debian::new("debian-unit");
    let [authority, _] = packages().map(|package| debian.add(&package));
    debian.run(&format!("dpkg --install {authority}"));
    let unit = "vncgate-authority.service";
    let root = format!("--root={}", debian.path("/").display());
    let mut verify = Command::new("systemd-analyze");
    let verified = verify.args(["verify", "--man=no", &root, unit]).output().expect("it runs");
    let told = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !told.contains(unit), "{told}");
    // In tenths: below 2.0.
    let mut security = Command::new("systemd-analyze");
    let told =
        run_to_end(security.args(["security", "--offline=true", "--threshold=19", &root, unit]));
    assert!(told.contains("Overall exposure level"), "{told}");
}
