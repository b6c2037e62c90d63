//! SIGHUP: a good configuration is in force at once, and a bad one changes nothing.

use crate::site::{ESXI, OTHER_ESXI, Site, second_vcenter};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::{CONFIG_FILE, new_api_token};
use vncgate_test_support::console_api::API_TOKEN_SHA256;
use vncgate_test_support::process::{Process, run_to_end};
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::wait::{until, until_some};
use vncgate_test_support::workspace;

const SUCCESSFUL: &str = "vncgate_config_last_reload_successful ";

#[tokio::test]
async fn a_good_configuration_is_in_force_at_once_and_nothing_is_lost() {
    let site = Site::start("reload").await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    let (new_token, sha256) = new_api_token("portal");
    let caller = site.authority.api().with_token(new_token);
    assert_eq!(caller.request_console(&vm.instance_uuid).await.status(), 401);
    let loaded_at = timestamp(&site).await;

    let old = format!("sha256 = {API_TOKEN_SHA256:?}");
    let both = format!("sha256 = [{API_TOKEN_SHA256:?}, {sha256:?}]");
    let config = site.authority.config().clone().with(&old, &both);
    assert!(site.authority.reload(&config).await);
    let issued = caller.console(&vm).await.token;
    site.authority.issue(&vm).await;
    for token in [&token, &issued] {
        site.authority.check(token).await.assert_granted(ESXI, port);
    }
    assert_eq!(site.logins().await, 1, "a vCenter that did not change keeps its login");
    assert_eq!(site.authority.count(SUCCESSFUL).await, 1);
    assert!(timestamp(&site).await > loaded_at);

    let config = config.with(&both, &format!("sha256 = {sha256:?}"));
    let config = config.with("#level = \"info\"", "level = \"warn,vncgate_authority::serve=info\"");
    assert!(site.authority.reload(&config).await);
    assert_eq!(caller.request_console(&vm.instance_uuid).await.status(), 200);
    let old = site.authority.api().request_console(&vm.instance_uuid).await;
    assert_eq!(old.status(), 401, "the old token has had its time");
    site.authority.check(&token).await.assert_granted(ESXI, port);
    let log = site.authority.log();
    assert_eq!(log.matches("token issued").count(), 3, "none at the level warn: {log}");
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_each_problem_is_told() {
    let site = Site::start("bad-reload").await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    let good = site.authority.config().clone();
    let loaded_at = timestamp(&site).await;

    let two_problems = good
        .clone()
        .with("token_ttl = \"10m\"", "token_ttl = \"1s\"")
        .with("vcenter-a.password", "no-such-file");
    let no_key = good.clone().with("ca_file = \"ca.pem\"", "ca_file = \"vcsim.key\"");
    let restart = good
        .clone()
        .with(&site.authority.config().public().to_string(), "127.0.0.1:1")
        .with("#capacity = 10000", "capacity = 10");
    for (config, problems) in [
        (
            two_problems,
            &["console.token_ttl: must be", "vcenter[0].password_file: cannot read"][..],
        ),
        (no_key, &["vcenter[0].ca_file: "]),
        (
            restart,
            &[
                "listen.public: needs a restart to change",
                "tokens.capacity: needs a restart to change",
            ],
        ),
    ] {
        let before = site.authority.log().len();
        assert!(!site.authority.reload(&config).await);
        let log = site.authority.log()[before..].to_owned();
        for problem in problems {
            assert!(log.contains(problem), "{problem}: {log}");
        }
        assert_eq!(site.authority.count(SUCCESSFUL).await, 0);
        site.authority.check(&token).await.assert_granted(ESXI, port);
        site.authority.issue(&vm).await;
    }
    assert_eq!(timestamp(&site).await, loaded_at);
    assert_eq!(site.logins().await, 1);

    let (half, _) = good.text().split_once(&API_TOKEN_SHA256[20..]).expect("a hash");
    site.run.write(CONFIG_FILE, half);
    assert!(!site.authority.hang_up().await, "half a file is no configuration");
    fs::remove_file(site.run.path(CONFIG_FILE)).expect("remove the configuration");
    assert!(!site.authority.hang_up().await, "an absent file is no configuration");
    assert!(site.authority.reload(&good).await);
    assert_eq!(site.authority.count(SUCCESSFUL).await, 1);
    site.authority.check(&token).await.assert_granted(ESXI, port);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_waited_for() {
    let site = Site::start("half-written").await;
    let (vm, _) = site.machine();
    let (token, sha256) = new_api_token("other");
    let caller = site.authority.api().with_token(token);
    // What is there already is a good configuration.
    let path = site.run.path(CONFIG_FILE);
    let text = fs::read_to_string(&path).expect("the configuration");
    fs::write(&path, &text).expect("write the configuration");
    let rest = async {
        for line in ["", "[[auth.api_token]]", "name = \"other\"", &format!("sha256 = {sha256:?}")]
        {
            // Far less than the second for which a file that is read has to be as it is.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let mut file = OpenOptions::new().append(true).open(&path).expect("open it");
            writeln!(file, "{line}").expect("write a line");
        }
    };
    let (reloaded, ()) = tokio::join!(site.authority.hang_up(), rest);
    assert!(reloaded);
    assert_eq!(site.authority.reloads(), (1, 0));
    assert_eq!(caller.request_console(&vm.instance_uuid).await.status(), 200);
}

#[tokio::test]
async fn vcenters_come_and_go_and_the_one_that_went_is_logged_out_of() {
    let site = Site::start("vcenters").await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    let alone = site.authority.config().clone();

    let (other, block) = second_vcenter("vcenters-other").await;
    let others_machine = other.create_vm("other-1", OTHER_ESXI, 5901);
    let both = alone.clone().with("\n[log]\n", &format!("\n{block}\n[log]\n"));
    assert!(site.authority.reload(&both).await);
    let path = format!("/v2.1/servers/{}/action", others_machine.instance_uuid);
    let action = json!({"os-getVNCConsoleVmware": {"type": "novnc"}});
    let issue = async || {
        let request = site.authority.request(Method::POST, &path).json(&action);
        Answer::of(request.send().await.expect("the console API answers")).await
    };
    let issued = issue().await;
    let url = issued.body["console"]["url"].as_str().expect("a URL").to_owned();
    let others_token = url.rsplit_once("token=").expect("a token").1.to_owned();
    site.authority.check(&others_token).await.assert_granted(OTHER_ESXI, 5901);
    assert_eq!((site.logins().await, sessions(&other)), (1, 1));
    let has_gauge = async || {
        site.authority.metrics().await.contains("vncgate_vcenter_up{vcenter=\"vcenter-b\"} ")
    };
    assert!(has_gauge().await);

    assert!(site.authority.reload(&alone).await);
    until("the end of the session", async || sessions(&other) == 0).await;
    // An alert on it would never end.
    until("the end of its gauge", async || !has_gauge().await).await;
    assert_eq!(site.authority.check(&others_token).await.status, 403);
    site.authority.check(&token).await.assert_granted(ESXI, port);
    assert_eq!((site.logins().await, sessions(&site.vcenter)), (1, 1));
    let log = site.authority.log();
    for line in ["vCenter added vcenter=\"vcenter-b\"", "vCenter removed vcenter=\"vcenter-b\""] {
        assert!(log.contains(line), "{log}");
    }
}

#[tokio::test]
async fn a_request_under_way_is_answered_by_what_it_began_with() {
    let site = Site::start("under-way").await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    let config = site.authority.config().clone();
    let config = config.with("hypervisors", "timeout = \"20s\"\nhypervisors");
    assert!(site.authority.reload(&config).await);
    site.authority.check(&token).await.assert_granted(ESXI, port);

    site.vcenter.freeze();
    let config = config.with("timeout = \"20s\"", "timeout = \"100ms\"");
    let check = site.authority.check(&token);
    // The check has reached vCenter when the next one, in the new configuration, has timed out there.
    let (answer, ()) = tokio::join!(check, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(site.authority.reload(&config).await);
        site.authority.check(&token).await.assert_refused(503, "vcenter_unavailable");
        site.vcenter.thaw();
    });
    answer.assert_granted(ESXI, port);
}

#[tokio::test]
async fn sighup_ends_nothing_however_often_and_whenever_it_comes() {
    let mut site = Site::start("hangups").await;
    let (vm, port) = site.machine();
    let token = site.authority.issue(&vm).await;
    for _ in 0..50 {
        site.authority.signal(Signal::SIGHUP);
    }
    // Signals that come together are one reload, and those that come during it are one more.
    assert!(site.authority.hang_up().await);
    site.authority.check(&token).await.assert_granted(ESXI, port);

    // While it drains: a request is under way until vCenter answers.
    site.vcenter.freeze();
    let check = site.authority.check(&token);
    let drain = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.authority.signal(Signal::SIGTERM);
        until("the drain", async || site.authority.log().contains("SIGTERM: draining")).await;
        site.authority.signal(Signal::SIGHUP);
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.vcenter.thaw();
    };
    let (answer, ()) = tokio::join!(check, drain);
    answer.assert_granted(ESXI, port);
    let process = site.authority.process();
    let status = until_some("the end of the authority", async || process.exit_status()).await;
    assert!(status.success(), "{status}");
}

/// The configuration is a pipe at first, so that the authority is still reading it when the signal comes.
#[tokio::test]
async fn sighup_during_the_start_is_answered_after_it() {
    let mut site = Site::start("early-hangup").await;
    site.authority.kill();
    let text = site.authority.config().text().to_owned();
    let (pipe, file) = (site.run.path("pipe.toml"), site.run.path(CONFIG_FILE));
    run_to_end(Command::new("mkfifo").arg(&pipe));
    let mut command = Command::new(workspace::authority());
    command.args(["serve", "--config"]).arg(&pipe);
    let mut process = Process::start(&site.run, "early", &command);
    let mut writer = until_some("a reader", async || {
        // There is none yet: ENXIO.
        let nonblocking = nix::libc::O_NONBLOCK;
        OpenOptions::new().write(true).custom_flags(nonblocking).open(&pipe).ok()
    })
    .await;
    process.signal(Signal::SIGHUP);
    fs::rename(&file, &pipe).expect("put the file in its place");
    writer.write_all(text.as_bytes()).expect("the configuration fits into the pipe");
    drop(writer);
    until("the reload", async || process.stderr().contains("the configuration was reloaded")).await;
    assert_eq!(process.exit_status(), None);
}

async fn timestamp(site: &Site) -> f64 {
    let metrics = site.authority.metrics().await;
    let name = "vncgate_config_last_reload_success_timestamp_seconds ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
    line.parse().expect("seconds")
}

/// Sessions in a vCenter other than `govc`'s.
fn sessions(vcenter: &Vcsim) -> usize {
    let listed = vcenter.govc(&["session.ls", "-json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("govc's JSON");
    listed["sessionList"].as_array().expect("a list of sessions").len() - 1
}
