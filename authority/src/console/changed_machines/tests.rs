use super::*;
use crate::vcenter::machine::tests::machine_on;
use crate::vcenter::reference::HostRef;
use std::num::NonZeroU16;

const PORT: Option<NonZeroU16> = NonZeroU16::new(5901);

fn session(machine: &VirtualMachine, vnc_port: Option<NonZeroU16>) -> Description {
    let host_reference = machine.host.as_ref().map(|host| host.reference.clone());
    Description { host_reference, vnc_port, ..Description::default() }
}

fn neighbour(port: Option<NonZeroU16>, running: bool) -> PortHolder {
    PortHolder { machine: MachineRef::from("vm-2".to_owned()), port, running }
}

/// The table of changes and what they do, for a VNC console and for a WebMKS console.
#[test]
fn a_change_that_vcenter_surely_tells_of_ends_a_console_and_no_other_does() {
    let machine = machine_on("6.7.0", Some(5901));
    let with = |change: fn(&mut VirtualMachine)| {
        let mut changed = machine.clone();
        change(&mut changed);
        changed
    };
    let off = Some(EndCode::MachinePoweredOff);
    let suspended = Some(EndCode::MachineSuspended);
    let moved = Some(EndCode::MachineMoved);
    let console_moved = Some(EndCode::ConsoleMoved);
    let shared = Some(EndCode::ConsoleShared);
    let rows: [(&str, VirtualMachine, Option<EndCode>, Option<EndCode>); 16] = [
        ("nothing", machine.clone(), None, None),
        ("powered off", with(|it| it.power_state = PowerState::Off), off, off),
        ("suspended", with(|it| it.power_state = PowerState::Suspended), suspended, suspended),
        ("its state is withheld", with(|it| it.power_state = PowerState::Unknown), None, None),
        ("disconnected", with(|it| it.connected = false), None, None),
        (
            "its host is disconnected, and what vCenter knows is old",
            with(|it| (it.connected, it.power_state) = (false, PowerState::Off)),
            None,
            None,
        ),
        (
            "another host",
            with(|it| it.host.as_mut().unwrap().reference = HostRef::from("host-2".to_owned())),
            moved,
            moved,
        ),
        ("its host is withheld", with(|it| it.host = None), None, None),
        (
            "its host has another name",
            with(|it| it.host.as_mut().unwrap().name = "esx-9".to_owned()),
            None,
            None,
        ),
        ("renamed", with(|it| it.name = "web-2".to_owned()), None, None),
        ("another port", with(|it| it.vnc_port = NonZeroU16::new(5902)), console_moved, None),
        ("VNC is off", with(|it| it.vnc_port = None), console_moved, None),
        (
            "its options are withheld",
            with(|it| (it.vnc_port, it.has_options) = (None, false)),
            None,
            None,
        ),
        (
            "its port is shared",
            with(|it| it.neighbours = vec![neighbour(PORT, true)]),
            shared,
            None,
        ),
        (
            "a neighbour that is off has its port",
            with(|it| it.neighbours = vec![neighbour(PORT, false)]),
            None,
            None,
        ),
        (
            "a neighbour's port is withheld",
            with(|it| it.neighbours = vec![neighbour(None, true)]),
            None,
            None,
        ),
    ];
    for (change, changed, vnc, webmks) in rows {
        let reason = |port| reason_to_end(&session(&machine, port), Some(&changed), false);
        assert_eq!(reason(PORT), vnc, "VNC: {change}");
        assert_eq!(reason(None), webmks, "WebMKS: {change}");
        let outside = reason_to_end(&session(&machine, PORT), Some(&changed), true);
        assert_eq!(outside, Some(EndCode::AccessLost), "{change}, and outside");
    }
    let removed = reason_to_end(&session(&machine, PORT), None, false);
    assert_eq!(removed, Some(EndCode::MachineRemoved));
    // A description of another version may lack where the console was.
    let unknown = Description { host_reference: None, ..session(&machine, None) };
    assert_eq!(reason_to_end(&unknown, Some(&machine), false), None);
}
