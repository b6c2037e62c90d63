//! VNC is switched on where it is off, with a port that no other machine of the host has.

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::NO_GATEWAY;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::console_api::Console;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::{Options, Vcsim, Vm};
use vncgate_test_support::wait::until;
use vncgate_test_support::webmks::{HostSettings, WITHOUT_VNC};

const ESXI: IpAddr = ESXI_HOSTS[0];
const OTHER_ESXI: IpAddr = ESXI_HOSTS[1];

const ENABLED: &str = "RemoteDisplay.vnc.enabled";
const PORT: &str = "RemoteDisplay.vnc.port";
const PASSWORD: &str = "RemoteDisplay.vnc.password";

/// Authorities of one vCenter with two hosts of a version with VNC. No Envoy: nothing is connected here.
struct Office {
    authorities: Vec<Authority>,
    vcenter: Vcsim,
    ca: Ca,
    runs: Vec<Run>,
}

impl Office {
    /// With one authority that may choose from these ports.
    async fn start(name: &str, ports: &str) -> Self {
        let mut office = Self::empty(name, Duration::ZERO).await;
        office.add_authority(|config| config.with_enable_vnc(ports)).await;
        office
    }

    /// Without any authority. Each reconfiguration takes some time.
    async fn empty(name: &str, reconfigure_time: Duration) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let options = Options { reconfigure_time, ..Options::default() };
        let vcenter = Vcsim::start_with(&run, &ca, options).await;
        for host in [ESXI, OTHER_ESXI] {
            vcenter.add_host(host);
        }
        Self { authorities: Vec::new(), vcenter, ca, runs: vec![run] }
    }

    async fn add_authority(&mut self, change: impl FnOnce(Config) -> Config) {
        let run = Run::new("enable-vnc");
        run.write("ca.pem", self.ca.pem());
        let config = change(Config::new(&run, &self.vcenter, NO_GATEWAY));
        self.authorities.push(Authority::start(&run, config).await);
        self.runs.push(run);
    }

    fn authority(&self) -> &Authority {
        &self.authorities[0]
    }

    /// A running machine of whose VNC its configuration says nothing.
    fn machine(&self, name: &str) -> Vm {
        self.vcenter.create_vm_without_vnc(name, &ESXI.to_string())
    }

    async fn console(&self, vm: &Vm) -> Console {
        self.authority().api().console(vm).await
    }

    /// Asserts that no console is issued, and returns nova's message.
    async fn assert_no_console(&self, vm: &Vm, status: u16, name: &str) -> String {
        let answer = self.authority().api().request_console(&vm.instance_uuid).await;
        Answer::of(answer).await.nova_error(status, name).to_owned()
    }

    /// What the machine's `config.extraConfig` says of VNC.
    fn vnc(&self, vm: &Vm) -> HashMap<String, String> {
        let info = self.vcenter.govc(&["vm.info", "-json", "-e", &vm.name]);
        let info: Value = serde_json::from_str(&info).expect("govc's JSON");
        let options = info["virtualMachines"][0]["config"]["extraConfig"].as_array();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let options = options.expect("a list").iter();
        options
            .map(|option| (text(&option["key"]), text(&option["value"])))
            .filter(|(key, value)| key.starts_with("RemoteDisplay.vnc.") && !value.is_empty())
            .collect()
    }

    fn port(&self, vm: &Vm) -> u16 {
        self.vnc(vm)[PORT].parse().expect("a port")
    }
}

fn without_password(config: Config) -> Config {
    config.with("#password = true", "password = false")
}

#[tokio::test]
async fn no_machine_is_changed_unless_that_is_configured() {
    let mut office = Office::empty("vnc-off", Duration::ZERO).await;
    office.add_authority(|config| config).await;
    let vm = office.machine("untouched");
    let console = office.console(&vm).await;
    let status = office.authority().status(&console.token).await;
    assert_eq!(status.body["protocol"], "webmks");
    assert_eq!(office.vnc(&vm), HashMap::new());
}

#[tokio::test]
async fn vnc_is_switched_on_with_a_port_of_the_range_and_a_password() {
    let office = Office::start("vnc-on", "5910-5919").await;
    let (vm, off) = (office.machine("switched-on"), office.machine("switched-off"));
    office.vcenter.set_extra_config(&off.name, ENABLED, "FALSE");
    office.vcenter.set_console_port(&off.name, 5999);
    for vm in [&vm, &off] {
        let console = office.console(vm).await;
        let vnc = office.vnc(vm);
        assert_eq!(vnc[ENABLED], "TRUE");
        let port = office.port(vm);
        assert!((5910..=5919).contains(&port), "{port}");
        assert_eq!(vnc[PASSWORD].len(), 8);
        let grant = office.authority().check(&console.token).await;
        let target = json!({
            "protocol": "vnc", "address": format!("{ESXI}:{port}"), "password": vnc[PASSWORD],
        });
        assert_eq!((grant.status, &grant.body["target"]), (200, &target), "{}", grant.body);

        // The next console changes nothing.
        office.console(vm).await;
        assert_eq!(office.vnc(vm), vnc);
        let metrics = office.authority().metrics().await;
        for log in [office.authority().log(), metrics] {
            assert!(!log.contains(&vnc[PASSWORD]), "the password is logged");
        }
    }
}

#[tokio::test]
async fn a_password_can_be_done_without() {
    let mut office = Office::empty("vnc-open", Duration::ZERO).await;
    office.add_authority(|config| without_password(config.with_enable_vnc("5910-5919"))).await;
    let vm = office.machine("open");
    let console = office.console(&vm).await;
    assert!(!office.vnc(&vm).contains_key(PASSWORD));
    let grant = office.authority().check(&console.token).await;
    assert_eq!(grant.body["target"]["password"], Value::Null);
}

#[tokio::test]
async fn a_port_of_another_machine_is_not_free_though_that_is_off() {
    let office = Office::start("vnc-free", "5910-5912").await;
    let running = office.vcenter.create_vm("running", ESXI, 5910);
    let stopped = office.vcenter.create_vm("stopped", ESXI, 5912);
    office.vcenter.power_off(&stopped.name);
    // The other host's ports are its own.
    office.vcenter.create_vm("elsewhere", OTHER_ESXI, 5911);
    let vm = office.machine("third");
    office.console(&vm).await;
    assert_eq!(office.port(&vm), 5911);
    assert_eq!((office.port(&running), office.port(&stopped)), (5910, 5912));

    let fourth = office.machine("fourth");
    let message = office.assert_no_console(&fourth, 409, "conflictingRequest").await;
    assert!(message.contains("No VNC port is free"), "{message}");
    assert_eq!(office.vnc(&fourth), HashMap::new());
}

#[tokio::test]
async fn a_missing_privilege_is_named() {
    let office = Office::start("vnc-denied", "5910-5919").await;
    let vm = office.machine("denied");
    office.vcenter.deny(&vm.name);
    let message = office.assert_no_console(&vm, 403, "forbidden").await;
    assert!(message.contains("VirtualMachine.Config.AdvancedConfig"), "{message}");
    assert_eq!(office.vnc(&vm), HashMap::new());
}

#[tokio::test]
async fn a_host_without_vnc_is_left_alone() {
    let mut office = Office::empty("vnc-new-host", Duration::ZERO).await;
    office
        .add_authority(|config| {
            config.with_enable_vnc("5910-5919").with("#console = \"auto\"", "console = \"vnc\"")
        })
        .await;
    let vm = office.machine("new-host");
    let version = Some(WITHOUT_VNC.to_owned());
    let settings = HostSettings { version, ..HostSettings::default() };
    office.vcenter.set_host(&ESXI.to_string(), &settings).await;
    office.assert_no_console(&vm, 400, "badRequest").await;
    assert_eq!(office.vnc(&vm), HashMap::new());
}

#[tokio::test]
async fn two_authorities_that_switch_on_the_same_machine_agree_on_its_port() {
    let mut office = Office::empty("vnc-same", Duration::from_millis(300)).await;
    for _ in 0..2 {
        office.add_authority(|config| config.with_enable_vnc("5910-5999")).await;
    }
    let vm = office.machine("wanted");
    let consoles = office.authorities.iter().map(|authority| {
        let vm = &vm;
        async move { (authority, authority.api().console(vm).await) }
    });
    for (authority, console) in join_all(consoles).await {
        let grant = authority.check(&console.token).await;
        let address = format!("{ESXI}:{}", office.port(&vm));
        assert_eq!(grant.body["target"]["address"], address.as_str(), "{}", grant.body);
    }
}

/// How long a change of a machine takes in the two tests below, and how long after one change the authority
/// starts its own.
const CHANGE: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_being_changed_is_waited_for() {
    let mut office = Office::empty("vnc-busy", CHANGE).await;
    office.add_authority(|config| config.with_enable_vnc("5910-5999")).await;
    let vm = office.machine("busy");
    let (api, wanted) = (office.authority().api(), vm.clone());
    let console = tokio::spawn(async move {
        tokio::time::sleep(LATER).await;
        api.console(&wanted).await
    });
    office.vcenter.set_extra_config(&vm.name, "any.other", "change");
    console.await.expect("a console");
    assert_eq!(office.vnc(&vm)[ENABLED], "TRUE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_leaves_no_port_that_nobody_has_looked_at() {
    let mut office = Office::empty("vnc-leaver", CHANGE).await;
    office.add_authority(|config| config.with_enable_vnc("5910-5910")).await;
    let (vm, neighbour) = (office.machine("leaver"), office.machine("neighbour"));
    let (api, wanted) = (office.authority().api(), vm.clone());
    let caller = tokio::spawn(async move {
        tokio::time::sleep(LATER).await;
        tokio::time::timeout(Duration::from_millis(500), api.console(&wanted)).await
    });
    // It has the same port before the authority's change is made, but not when the port was chosen.
    office.vcenter.set_console_port(&neighbour.name, 5910);
    caller.await.expect("no panic").expect_err("it takes longer");
    until("the port given up", async || {
        office.vnc(&vm).get(ENABLED).is_some_and(|enabled| enabled == "FALSE")
    })
    .await;
    assert!(!office.vnc(&vm).contains_key(PORT));
}

#[tokio::test]
async fn a_port_that_is_taken_on_the_new_host_is_changed_there() {
    for repaired in [false, true] {
        let mut office = Office::empty("vnc-moved", Duration::ZERO).await;
        let configure =
            |config: Config| if repaired { config.with_enable_vnc("5910-5999") } else { config };
        office.add_authority(configure).await;
        let resident = office.vcenter.create_vm("resident", OTHER_ESXI, 5910);
        let mover = office.vcenter.create_vm("mover", ESXI, 5910);
        let (resident_s, mover_s) = (office.console(&resident).await, office.console(&mover).await);
        office.vcenter.migrate(&mover.name, OTHER_ESXI);

        let authority = office.authority();
        authority.check(&mover_s.token).await.assert_refused(409, "console_moved");
        // Whose the port is on the host now is not certain.
        authority.check(&resident_s.token).await.assert_refused(409, "console_unavailable");
        if repaired {
            let console = office.console(&mover).await;
            let port = office.port(&mover);
            assert_ne!(port, 5910);
            let grant = authority.check(&console.token).await;
            let address = format!("{OTHER_ESXI}:{port}");
            assert_eq!(grant.body["target"]["address"], address.as_str(), "{}", grant.body);
        } else {
            let message = office.assert_no_console(&mover, 409, "conflictingRequest").await;
            assert!(message.contains("has the VNC port"), "{message}");
            office.vcenter.power_off(&mover.name);
        }
        assert_eq!(
            authority.check(&resident_s.token).await.status,
            200,
            "its port is its own again"
        );
    }
}
