use super::*;
use crate::vcenter::property::{VNC_ENABLED, VNC_PORT};
use crate::vcenter::reference::HostRef;

fn object(kind: &str, id: &str, properties: &[(&str, &str)]) -> ObjectContent {
    let path = |path: &str| match path.starts_with("RemoteDisplay.") {
        true => format!("{EXTRA_CONFIG}[\"{path}\"]"),
        false => path.to_owned(),
    };
    let given = properties.iter().map(|&(key, value)| (path(key), value.to_owned()));
    let properties = given.chain([(EXTRA_CONFIG.to_owned(), String::new())]).collect();
    ObjectContent { kind: kind.to_owned(), id: id.to_owned(), properties, missing: Vec::new() }
}

const UUID: &str = "5d93eed6-a1b7-5668-903c-b43c7c81d44c";

fn machine_with(changes: &[(&str, &str)]) -> VirtualMachine {
    let mut properties = vec![
        (NAME, "web-1"),
        (INSTANCE_UUID, UUID),
        (POWER_STATE, "poweredOn"),
        (CONNECTION_STATE, "connected"),
        (HOST, "host-29"),
        (VCPUS, "2"),
        (MEMORY_MIB, "4096"),
    ];
    properties.retain(|(path, _)| !changes.iter().any(|(changed, _)| changed == path));
    properties.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    let machine = object("VirtualMachine", "vm-41", &properties);
    let host = object(
        "HostSystem",
        "host-29",
        &[
            (host::NAME, "esx-1.example.com"),
            (HOST_PARENT, "domain-c7"),
            (host::VERSION, "6.7.0"),
            (host::CERTIFICATE, "PEM"),
            (host::ADDRESSES, "192.0.2.5 2001:db8::5"),
        ],
    );
    machines(&[machine, host]).remove(0)
}

#[test]
fn a_machine_has_its_host() {
    let machine = machine_with(&[(VNC_PORT, "5901")]);
    assert_eq!(
        machine,
        VirtualMachine {
            reference: MachineRef::from("vm-41".to_owned()),
            name: "web-1".to_owned(),
            instance: Some(UUID.parse().unwrap()),
            power_state: PowerState::On,
            connected: true,
            host: Some(Host {
                reference: HostRef::from("host-29".to_owned()),
                name: "esx-1.example.com".to_owned(),
                version: Some("6.7.0".to_owned()),
                certificate: Some("PEM".to_owned()),
                addresses: vec!["192.0.2.5".parse().unwrap(), "2001:db8::5".parse().unwrap()],
            }),
            vnc_port: NonZeroU16::new(5901),
            has_options: true,
            vnc_password: None,
            neighbours: Vec::new(),
            cluster: Some("domain-c7".to_owned()),
            vcpus: 2,
            memory_mib: 4096,
            created: None,
            modified: None,
        }
    );
    let elsewhere = machine_with(&[(HOST, "host-30")]);
    assert_eq!(elsewhere.host, None, "a host that was not read");
}

/// A running machine on a host of that version, with or without a VNC port.
pub(crate) fn machine_on(version: &str, port: Option<u16>) -> VirtualMachine {
    let port = port.map(|port| port.to_string());
    let machine = machine_with(&[(VNC_PORT, port.as_deref().unwrap_or_default())]);
    let host = machine.host.map(|host| Host { version: Some(version.to_owned()), ..host });
    VirtualMachine { host, ..machine }
}

#[test]
fn a_password_is_read_and_not_shown() {
    let machine = machine_with(&[(VNC_PASSWORD, "s3cret")]);
    assert_eq!(machine.vnc_password, Some(Secret("s3cret".to_owned())));
    assert!(!format!("{machine:?}").contains("s3cret"));
    assert_eq!(machine_with(&[(VNC_PASSWORD, "")]).vnc_password, None);
    assert!(
        !listed_paths(Some("8.0.3.0"))
            .iter()
            .any(|path| path.contains(VNC_PASSWORD) || *path == EXTRA_CONFIG)
    );
}

#[test]
fn the_port_counts_unless_vnc_is_off() {
    for (port, enabled, expected) in [
        ("5901", "", Some(5901)),
        ("5901", "TRUE", Some(5901)),
        ("5901", "true", Some(5901)),
        (" 5901 ", "", Some(5901)),
        ("5901", "FALSE", None),
        ("", "TRUE", None),
        ("0", "TRUE", None),
        ("-1", "TRUE", None),
        ("65536", "TRUE", None),
        ("5901x", "TRUE", None),
    ] {
        let machine = machine_with(&[(VNC_PORT, port), (VNC_ENABLED, enabled)]);
        assert_eq!(machine.vnc_port.map(NonZeroU16::get), expected, "{port:?} {enabled:?}");
    }
}

#[test]
fn states_are_vsphere_s() {
    for (text, state) in [
        ("poweredOn", PowerState::On),
        ("poweredOff", PowerState::Off),
        ("suspended", PowerState::Suspended),
    ] {
        assert_eq!(machine_with(&[(POWER_STATE, text)]).power_state, state);
    }
    for odd in [(POWER_STATE, "exploded"), (POWER_STATE, ""), (CONNECTION_STATE, "")] {
        assert_eq!(machine_with(&[odd]).power_state, PowerState::Unknown, "{odd:?}");
    }
    for state in ["disconnected", "inaccessible", "invalid", "orphaned"] {
        assert!(!machine_with(&[(CONNECTION_STATE, state)]).connected, "{state}");
    }
}

#[test]
fn a_machine_may_have_no_instance_uuid() {
    assert_eq!(machine_with(&[(INSTANCE_UUID, "")]).instance, None);
    assert_eq!(machine_with(&[(INSTANCE_UUID, "not a UUID")]).instance, None);
}

fn named(objects: &[ObjectContent], id: &str) -> Option<VirtualMachine> {
    let references = [MachineRef::from(id.to_owned())];
    machines_by_reference(objects, &references).next().unwrap()
}

fn holder(id: &str, port: u16, running: bool) -> PortHolder {
    let machine = MachineRef::from(id.to_owned());
    PortHolder { machine, port: NonZeroU16::new(port), running }
}

/// An object that two filters select may come once for each; vcsim gives it once with the properties of both.
#[test]
fn a_machine_is_not_its_own_neighbour() {
    let whole = [
        (NAME, "web-1"),
        (POWER_STATE, "poweredOn"),
        (CONNECTION_STATE, "connected"),
        (VNC_PORT, "5901"),
    ];
    let own = object("VirtualMachine", "vm-41", &whole);
    let own_as_neighbour = object("VirtualMachine", "vm-41", &whole[1..]);
    let off = [(POWER_STATE, "poweredOff"), (VNC_PORT, "5902")];
    let neighbour = object("VirtualMachine", "vm-42", &off);
    let without_vnc = object("VirtualMachine", "vm-43", &[(POWER_STATE, "poweredOn")]);
    for objects in [
        vec![own.clone(), neighbour.clone(), without_vnc.clone()],
        vec![own_as_neighbour, own, neighbour.clone(), without_vnc],
    ] {
        let machine = named(&objects, "vm-41").unwrap();
        assert_eq!(machine.name, "web-1");
        assert_eq!(machine.neighbours, [holder("vm-42", 5902, false)]);
    }
    assert_eq!(named(&[neighbour], "vm-41"), None);
}

#[test]
fn of_several_machines_each_has_the_neighbours_of_its_own_host() {
    let running = |id: &str, port: &str, host: &str| {
        let mut properties = vec![
            (NAME, id),
            (POWER_STATE, "poweredOn"),
            (CONNECTION_STATE, "connected"),
            (VNC_PORT, port),
            (HOST, host),
        ];
        properties.retain(|(_, value)| !value.is_empty());
        object("VirtualMachine", id, &properties)
    };
    let objects = [
        running("vm-1", "5901", "host-1"),
        running("vm-2", "5902", "host-2"),
        running("vm-3", "5903", "host-1"),
        running("vm-4", "5904", ""),
    ];
    let withheld = holder("vm-4", 5904, true);
    let neighbours = |id| named(&objects, id).unwrap().neighbours;
    assert_eq!(neighbours("vm-1"), [holder("vm-3", 5903, true), withheld.clone()]);
    assert_eq!(neighbours("vm-2"), [withheld]);
    assert_eq!(neighbours("vm-4").len(), 3, "its own host is withheld");
}

/// One odd machine must not take the inventory down.
#[test]
fn an_odd_machine_is_shown_as_far_as_it_is_known_and_a_deleted_one_is_left_out() {
    let good = [(NAME, "web-1"), (POWER_STATE, "poweredOn"), (CONNECTION_STATE, "connected")];
    let withheld = object("VirtualMachine", "vm-2", &[]);
    let mut deleted = object("VirtualMachine", "vm-3", &[]);
    deleted.missing.push((NAME.to_owned(), Fault::MANAGED_OBJECT_NOT_FOUND.to_owned()));
    let objects = [object("VirtualMachine", "vm-1", &good), withheld, deleted];
    let found = machines(&objects);
    let shown: Vec<_> =
        found.iter().map(|machine| (machine.name.as_str(), machine.power_state)).collect();
    assert_eq!(shown, [("web-1", PowerState::On), ("vm-2", PowerState::Unknown)]);
    assert_eq!(named(&objects, "vm-3"), None);
}

#[test]
fn the_time_of_creation_is_read_from_a_vcenter_that_has_it() {
    for (version, has) in [
        (Some("6.5"), false),
        (Some("6.7"), true),
        (Some("6.7.3"), true),
        (Some("7.0.0.0"), true),
        (Some("10.0"), true),
        (Some("vCenter"), false),
        (None, false),
    ] {
        for paths in [listed_paths(version), machine_paths(version)] {
            assert_eq!(paths.contains(&CREATED), has, "{version:?}");
        }
    }
    let machine = machine_with(&[(CREATED, "2026-11-27T06:00:00.5+02:00")]);
    let created = humantime::parse_rfc3339("2026-11-27T04:00:00.5Z").unwrap();
    assert_eq!((machine.created, machine.modified), (Some(created), None));
}
