//! What is in the packages, their upgrade and removal without a systemd that runs, and the unit.

use crate::fixture::{Debian, all_packages, packages};
use std::process::Command;
use vncgate_test_support::process::run_to_end;
use vncgate_test_support::workspace::checkout;

const CONFIG: &str = "/etc/vncgate/authority.toml";

/// The commands of "Debian and systemd" in docs/install.md.
pub(crate) fn documented_commands() -> Vec<String> {
    let page = std::fs::read_to_string(checkout().join("docs/install.md")).expect("the page");
    let section = page.split("\n## Debian and systemd\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("the text of the section");
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[test]
fn an_upgrade_keeps_the_configuration_and_a_purge_keeps_passwords() {
    let debian = Debian::new("debian-upgrade");
    let [authority, envoy] = packages().map(|package| debian.add(&package));
    debian.run(&format!("dpkg --install {authority} {envoy}"));
    assert_eq!(debian.run("dpkg --verify vncgate-authority vncgate-envoy"), "");
    debian.run(&format!("chgrp adm {CONFIG}; echo '# ours' >>{CONFIG}"));
    for package in [&authority, &envoy] {
        let next = debian.next_version(package);
        debian.run(&format!("dpkg --install {next}"));
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
fn the_units_are_right_and_confined() {
    let debian = Debian::new("debian-unit");
    let [authority, envoy] = packages().map(|package| debian.add(&package));
    debian.run(&format!(
        "dpkg --install {authority} {envoy}; touch /usr/bin/envoy; chmod 755 /usr/bin/envoy"
    ));
    let root = format!("--root={}", debian.path("/").display());
    for unit in ["vncgate-authority.service", "vncgate-envoy.service"] {
        let mut verify = Command::new("systemd-analyze");
        let verified = verify.args(["verify", "--man=no", &root, unit]).output().expect("it runs");
        let told = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && !told.contains(unit), "{told}");
        // In tenths: below 2.0.
        let mut security = Command::new("systemd-analyze");
        let confined = ["security", "--offline=true", "--threshold=19", &root, unit];
        let told = run_to_end(security.args(confined));
        assert!(told.contains("Overall exposure level"), "{told}");
    }
}

#[test]
fn lintian_finds_nothing_and_the_packages_document_themselves() {
    let all = all_packages();
    assert_eq!(all.len(), 3, "two architectures, and the filter: {all:?}");
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).args(&all);
    assert_eq!(run_to_end(&mut lintian), "");

    let debian = Debian::new("debian-documents");
    let [authority, envoy] = packages().map(|package| debian.add(&package));
    debian.run(&format!("dpkg --install {authority} {envoy}"));
    let text = |path: &str| debian.run(&format!("zcat {path}"));
    let version = debian.run("dpkg-query --show --showformat='${Version}' vncgate-authority");
    for package in ["vncgate-authority", "vncgate-envoy"] {
        let documents = format!("/usr/share/doc/{package}");
        let changes = text(&format!("{documents}/changelog.gz"));
        assert!(changes.starts_with(&format!("vncgate ({version}) unstable")), "{changes:.200}");
        let licences = text(&format!("{documents}/third-party-licences.txt.gz"));
        assert!(licences.contains("\nserde 1."), "{licences:.200}");
    }
    // Each command that --help lists has a page of its own.
    let help = debian.run("vncgate-authority --help");
    let commands = help.split("\nCommands:\n").nth(1).expect("commands");
    let commands = commands.split("\n\n").next().expect("their list");
    let names = commands.lines().filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 5, "{help}");
    for name in names {
        let page = text(&format!("/usr/share/man/man1/vncgate-authority-{name}.1.gz"));
        assert!(page.contains(&format!(".TH vncgate-authority-{name} 1")), "{page:.300}");
    }
    assert!(text("/usr/share/man/man1/vncgate-authority.1.gz").contains("EXTRA"));
}
