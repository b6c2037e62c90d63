use super::*;
use crate::vcenter::machine::MachineRef;

fn machine() -> VirtualMachine {
    VirtualMachine {
        reference: MachineRef::from("vm-41".to_owned()),
        name: "web-1".to_owned(),
        instance: Some(Uuid::from_u128(1)),
        power_state: PowerState::On,
        connected: true,
        host: Some("esx-1".to_owned()),
        vnc_port: NonZeroU16::new(5901),
        cluster: None,
        vcpus: 1,
        memory_mib: 1024,
    }
}

fn record() -> Record {
    Record {
        instance: Uuid::from_u128(1),
        console: ConsoleType::Novnc,
        service_host: "vcenter-a".to_owned(),
        machine: MachineRef::from("vm-41".to_owned()),
        host: "esx-1".to_owned(),
        port: 5901.try_into().unwrap(),
        issued_at: SystemTime::now(),
        expires_at: SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn a_token_s_place_is_its_host_and_its_port() {
    assert!(place_for(&record(), &machine()).is_ok());
    for moved in [
        VirtualMachine { host: Some("esx-2".to_owned()), ..machine() },
        VirtualMachine { vnc_port: NonZeroU16::new(5902), ..machine() },
    ] {
        let answer = place_for(&record(), &moved);
        assert!(matches!(answer, Err(CheckError::Moved { .. })), "{answer:?}");
    }
}

#[test]
fn a_machine_without_a_console_says_why() {
    for (machine, expected) in [
        (VirtualMachine { power_state: PowerState::Off, ..machine() }, NoConsole::PoweredOff),
        (VirtualMachine { power_state: PowerState::Suspended, ..machine() }, NoConsole::Suspended),
        (VirtualMachine { connected: false, ..machine() }, NoConsole::Disconnected),
        (VirtualMachine { host: None, ..machine() }, NoConsole::HostUnknown),
        (VirtualMachine { vnc_port: None, ..machine() }, NoConsole::NoVnc),
    ] {
        assert_eq!(Place::of(&machine), Err(expected));
        match place_for(&record(), &machine) {
            Err(CheckError::NoConsole { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_token_goes_where_the_url_says() {
    let token = Token::random();
    let revealed = token.reveal();
    for (configured, expected) in [
        (
            "https://x/console.html#token={token}",
            format!("https://x/console.html#token={revealed}"),
        ),
        ("https://x/vnc_auto.html", format!("https://x/vnc_auto.html?token={revealed}")),
        (
            "https://x/vnc_lite.html?path=websockify%3Ftoken%3D{token}&resize=scale",
            format!("https://x/vnc_lite.html?path=websockify%3Ftoken%3D{revealed}&resize=scale"),
        ),
    ] {
        assert_eq!(PageUrl::parse(configured).unwrap().with(&token), expected);
    }
    for wrong in
        ["", "console.html", "ftp://x/{token}", "https://x/{token}#{token}", "javascript:{token}"]
    {
        assert!(PageUrl::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn no_two_tokens_are_the_same() {
    assert_ne!(Token::random().reveal(), Token::random().reveal());
}
