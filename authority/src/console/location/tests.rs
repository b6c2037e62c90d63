use super::*;
use crate::vcenter::reference::{HostRef, MachineRef};
use std::num::NonZeroU16;
use std::time::SystemTime;
use uuid::Uuid;

fn host(name: &str) -> Option<Host> {
    Some(Host {
        reference: HostRef::from("host-29".to_owned()),
        name: name.to_owned(),
        version: Some("6.7.0".to_owned()),
        certificate: None,
        addresses: Vec::new(),
    })
}

fn machine() -> VirtualMachine {
    VirtualMachine {
        reference: MachineRef::from("vm-41".to_owned()),
        name: "web-1".to_owned(),
        instance: Some(Uuid::from_u128(1)),
        power_state: PowerState::On,
        connected: true,
        host: host("esx-1"),
        vnc_port: NonZeroU16::new(5901),
        has_options: true,
        vnc_password: None,
        neighbours: Vec::new(),
        cluster: None,
        vcpus: 1,
        memory_mib: 1024,
        created: None,
        modified: None,
    }
}

fn record() -> Record {
    Record {
        machine: MachineRef::from("vm-41".to_owned()),
        caller: "alice@Default".to_owned(),
        issued_at: SystemTime::now(),
        ..Record::for_tests()
    }
}

#[test]
fn a_token_s_location_is_its_host_and_its_port() {
    assert!(host_for(&record(), &machine()).is_ok());
    let same_name =
        Host { reference: HostRef::from("host-30".to_owned()), ..host("esx-1").unwrap() };
    for moved in [
        VirtualMachine { host: host("esx-2"), ..machine() },
        VirtualMachine { host: Some(same_name), ..machine() },
        VirtualMachine { vnc_port: NonZeroU16::new(5902), ..machine() },
    ] {
        let answer = host_for(&record(), &moved);
        assert!(matches!(answer, Err(CheckError::Moved { .. })), "{answer:?}");
    }
}

#[test]
fn a_webmks_console_has_a_host_and_no_port() {
    let record = Record { vnc_port: None, ..record() };
    for vnc_port in [None, NonZeroU16::new(5901)] {
        assert!(host_for(&record, &VirtualMachine { vnc_port, ..machine() }).is_ok());
    }
    let moved = VirtualMachine { host: host("esx-2"), ..machine() };
    let answer = host_for(&record, &moved);
    assert!(matches!(answer, Err(CheckError::Moved { .. })), "{answer:?}");
}

#[test]
fn a_machine_without_a_console_says_why() {
    for (machine, expected) in [
        (
            VirtualMachine { power_state: PowerState::Off, ..machine() },
            ConsoleUnavailable::PoweredOff,
        ),
        (
            VirtualMachine { power_state: PowerState::Suspended, ..machine() },
            ConsoleUnavailable::Suspended,
        ),
        (
            VirtualMachine { power_state: PowerState::Unknown, ..machine() },
            ConsoleUnavailable::StateUnknown,
        ),
        (VirtualMachine { connected: false, ..machine() }, ConsoleUnavailable::Disconnected),
        (VirtualMachine { host: None, ..machine() }, ConsoleUnavailable::HostUnknown),
        (VirtualMachine { vnc_port: None, ..machine() }, ConsoleUnavailable::NoVnc),
    ] {
        match host_for(&record(), &machine) {
            Err(CheckError::Unavailable(reason)) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
}
