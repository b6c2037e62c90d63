//! A VNC port is one machine's: nova's lock on ports was one process's.

use futures_util::future::join_all;
use serde_json::Value;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use vncgate_test_support::authority::NO_GATEWAY;
use vncgate_test_support::authority::{Authority, Config};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::process::Run;
use vncgate_test_support::vcsim::{Options, Vcsim, Vm};

const ESXI: IpAddr = ESXI_HOSTS[0];

/// How often the machines race, and how many they are.
const ROUNDS: usize = 8;
const MACHINES: usize = 6;

/// So few ports for them that choices collide: by chance alone they would not in one of thirteen rounds.
const PORTS: &str = "5910-5917";

/// A change takes long enough that every authority chooses before it sees what the others chose.
const RECONFIGURE_TIME: Duration = Duration::from_millis(200);

const ENABLED: &str = "RemoteDisplay.vnc.enabled";
const PORT: &str = "RemoteDisplay.vnc.port";

/// nova gave two machines of a host one VNC port when two of its processes chose at the same moment, and the
/// console of one of them was that of the other. Here two authorities that know nothing of each other choose
/// at the same moment, over and over.
#[tokio::test]
async fn cve_2014_8750_two_machines_with_one_port() {
    let run = Run::new("shared-ports");
    let ca = Ca::new(&run);
    let options = Options { reconfigure_time: RECONFIGURE_TIME, ..Options::default() };
    let vcenter = Vcsim::start_with(&run, &ca, options).await;
    vcenter.add_host(ESXI);
    let mut authorities = Vec::new();
    for name in ["one-authority", "other-authority"] {
        let run = Run::new(name);
        run.write("ca.pem", ca.pem());
        let config = enable_vnc(Config::new(&run, &vcenter, NO_GATEWAY));
        authorities.push((Authority::start(&run, config).await, run));
    }
    let host = ESXI.to_string();
    let machines: Vec<Vm> = (0..MACHINES)
        .map(|number| vcenter.create_vm_without_vnc(&format!("racer-{number}"), &host))
        .collect();

    for round in 0..ROUNDS {
        let races = machines.iter().enumerate().map(|(number, vm)| {
            let (authority, _) = &authorities[(number + round) % authorities.len()];
            async move {
                let token = authority.issue(vm).await;
                // While others still choose: the token opens this machine's console or none.
                let early = authority.check(&token).await;
                (authority, vm, token, early)
            }
        });
        let outcomes = join_all(races).await;

        let ports = ports(&vcenter, &machines);
        let mut owners: HashMap<u16, Vec<&str>> = HashMap::new();
        for (name, port) in &ports {
            owners.entry(*port).or_default().push(name);
        }
        assert_eq!(owners.len(), MACHINES, "round {round}: {owners:?}");
        for (authority, vm, token, early) in outcomes {
            let port = ports[&vm.name];
            if early.status == 200 {
                early.assert_granted(ESXI, port);
            } else {
                early.assert_refused(409, "console_unavailable");
            }
            authority.check(&token).await.assert_granted(ESXI, port);
        }
        machines.iter().for_each(|vm| switch_off(&vcenter, vm));
    }
}

fn enable_vnc(config: Config) -> Config {
    config.with_enable_vnc(PORTS).with("#password = true", "password = false")
}

/// The VNC port of each machine, by its name.
fn ports(vcenter: &Vcsim, machines: &[Vm]) -> HashMap<String, u16> {
    let mut arguments = vec!["vm.info", "-json", "-e"];
    arguments.extend(machines.iter().map(|vm| vm.name.as_str()));
    let info: Value = serde_json::from_str(&vcenter.govc(&arguments)).expect("govc's JSON");
    let machines = info["virtualMachines"].as_array().expect("a list");
    let port = |machine: &Value| {
        let options = machine["config"]["extraConfig"].as_array().expect("a list");
        let option = options.iter().find(|option| option["key"] == PORT).expect("a VNC port");
        option["value"].as_str().expect("text").parse().expect("a port")
    };
    let name = |machine: &Value| machine["name"].as_str().expect("a name").to_owned();
    machines.iter().map(|machine| (name(machine), port(machine))).collect()
}

fn switch_off(vcenter: &Vcsim, vm: &Vm) {
    let (enabled, port) = (format!("{ENABLED}=FALSE"), format!("{PORT}="));
    vcenter.govc(&["vm.change", "-vm", &vm.name, "-e", &enabled, "-e", &port]);
}
