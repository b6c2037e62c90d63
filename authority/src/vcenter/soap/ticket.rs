//! `VirtualMachine.AcquireTicket`: the right to open one console once.

use super::envelope::{call, read, required};
use super::error::SoapError;
use crate::vcenter::xml::Malformed;
use std::num::NonZeroU16;
use vncgate_api::Secret;

/// The ticket type of consoles that are WebSockets.
const WEBMKS: &str = "webmks";

/// A `VirtualMachineTicket`, as vCenter has it from the machine's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Opaque. It opens the console once, for any holder.
    pub ticket: Secret,
    /// The host to connect to. `None` means the machine's host.
    pub host: Option<String>,
    /// `None` means the port of HTTPS.
    pub port: Option<NonZeroU16>,
    /// The same as a URL, from hosts of version 7.0 on. It contains the ticket.
    pub url: Option<Secret>,
}

/// `VirtualMachine.AcquireTicket` for a WebMKS console.
pub fn acquire_ticket(machine: &str) -> String {
    let arguments = format!("<ticketType>{WEBMKS}</ticketType>");
    call("AcquireTicket", "VirtualMachine", machine, &arguments)
}

/// Reads the reply to [`acquire_ticket`].
pub fn read_ticket(reply: &[u8]) -> Result<Ticket, SoapError> {
    read(reply, "AcquireTicketResponse", |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        let (mut ticket, mut host, mut port, mut url) = (None, None, None, None);
        while let Some(child) = cursor.child(&value)? {
            match child.name() {
                "ticket" => ticket = Some(Secret(cursor.text(&child)?)),
                "host" => host = Some(cursor.text(&child)?),
                "port" => port = parse_port(cursor.text(&child)?)?,
                "url" => url = Some(Secret(cursor.text(&child)?)),
                _ => {}
            }
        }
        Ok(Ticket {
            ticket: required(ticket, "ticket")?,
            host: host.filter(|host| !host.is_empty()),
            port,
            url,
        })
    })
}

/// Parses a vSphere `int`, in which 0 means no port.
fn parse_port(text: String) -> Result<Option<NonZeroU16>, Malformed> {
    let port: Result<u16, _> = text.parse();
    port.map(NonZeroU16::new)
        .map_err(|_| Malformed::Unexpected { expected: "a TCP port", found: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(returnval: &str) -> Vec<u8> {
        format!(
            "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\
             <soapenv:Body><AcquireTicketResponse xmlns=\"urn:vim25\"><returnval>{returnval}\
             </returnval></AcquireTicketResponse></soapenv:Body></soapenv:Envelope>"
        )
        .into_bytes()
    }

    #[test]
    fn a_ticket_is_read_with_what_the_host_tells() {
        let full = reply(
            "<ticket>cst-++//a==--tp-AB:CD</ticket><cfgFile>[ds] web-1.vmx</cfgFile>\
             <host>esx-1.example.com</host><port>443</port><sslThumbprint>AB</sslThumbprint>\
             <url>wss://esx-1.example.com:443/ticket/cst-++//a==--tp-AB:CD</url>",
        );
        let full = read_ticket(&full).unwrap();
        assert_eq!(full.ticket.0, "cst-++//a==--tp-AB:CD");
        assert_eq!(full.host.as_deref(), Some("esx-1.example.com"));
        assert_eq!(full.port, NonZeroU16::new(443));
        assert!(full.url.as_ref().unwrap().0.ends_with("tp-AB:CD"));
        assert!(!format!("{full:?}").contains("cst-"), "{full:?}");
    }

    #[test]
    fn what_a_host_leaves_open_is_none() {
        let least = read_ticket(&reply("<ticket>t</ticket><cfgFile/><host></host><port>0</port>"));
        let expected = Ticket { ticket: Secret("t".to_owned()), host: None, port: None, url: None };
        assert_eq!(least, Ok(expected));
        assert_eq!(read_ticket(&reply("<host>h</host>")), Err(Malformed::Missing("ticket").into()));
        assert!(read_ticket(&reply("<ticket>t</ticket><port>65536</port>")).is_err());
    }
}
