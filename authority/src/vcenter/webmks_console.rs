//! Where the holder of a ticket connects.

use super::soap::Ticket;
use super::xml::Malformed;
use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use vncgate_api::Secret;

/// The port of HTTPS, for a ticket without a port.
const DEFAULT_PORT: NonZeroU16 = NonZeroU16::new(443).expect("it is not zero");

/// A console that accepts one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebmksConsole {
    /// Names and addresses of the host, best first. The name in a ticket may be missing or may not resolve; the
    /// name in the inventory is the one that vCenter itself connects to.
    pub hosts: Vec<String>,
    /// TCP port.
    pub port: NonZeroU16,
    /// Path of the WebSocket. It contains the ticket.
    pub path: Secret,
}

impl WebmksConsole {
    /// The console that a ticket is for. `inventory_name` is the name of the machine's host.
    pub(super) fn new(ticket: &Ticket, inventory_name: &str) -> Result<Self, Malformed> {
        let location = ticket.url.as_ref().and_then(|url| Location::parse(&url.0));
        let path = match &location {
            Some(Location { path, .. }) => (*path).to_owned(),
            None => format!("/ticket/{}", ticket.ticket.0),
        };
        // The path goes into a request line unchanged: base64 and thumbprints need no escaping there.
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            let found = "something else".to_owned();
            return Err(Malformed::Unexpected { expected: "a ticket", found });
        }
        let url_host = location.as_ref().map(|location| location.host);
        let mut hosts: Vec<String> = Vec::new();
        for host in [url_host, ticket.host.as_deref(), Some(inventory_name)].into_iter().flatten() {
            if !host.is_empty() && !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
                hosts.push(host.to_owned());
            }
        }
        let url_port = location.as_ref().and_then(|location| location.port);
        let port = ticket.port.or(url_port).unwrap_or(DEFAULT_PORT);
        Ok(Self { hosts, port, path: Secret(path) })
    }

    /// `Host` of a request to this console at `host`. An IPv6 address gets brackets (RFC 3986 3.2.2): vCenter
    /// writes it without.
    pub fn host_header(&self, host: &str) -> String {
        let host = match host.parse::<Ipv6Addr>() {
            Ok(_) => Cow::Owned(format!("[{host}]")),
            Err(_) => Cow::Borrowed(host),
        };
        match self.port {
            DEFAULT_PORT => host.into_owned(),
            port => format!("{host}:{port}"),
        }
    }
}

/// The parts of a WebSocket URL (RFC 6455, section 3). A general URL parser would rewrite the path, which
/// contains the ticket, and would refuse the URLs without a host that some ESXi hosts write.
struct Location<'a> {
    host: &'a str,
    port: Option<NonZeroU16>,
    path: &'a str,
}

impl<'a> Location<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("wss://")?;
        let (authority, path) = rest.split_at(rest.find('/')?);
        let (host, port) = match authority.rsplit_once(':') {
            // An IPv6 literal without a port ends with its bracket.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (authority, None),
        };
        Some(Self { host, port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "cst-++//a==--tp-AB:CD";

    fn console(host: &str, port: u16, url: &str) -> WebmksConsole {
        let url = (!url.is_empty()).then(|| Secret(format!("wss://{url}/ticket/{TICKET}")));
        let ticket = Ticket {
            ticket: Secret(TICKET.to_owned()),
            host: (!host.is_empty()).then(|| host.to_owned()),
            port: NonZeroU16::new(port),
            url,
        };
        WebmksConsole::new(&ticket, "10.0.0.5").unwrap()
    }

    #[test]
    fn each_part_falls_back_to_the_next_source() {
        for (host, port, url, hosts, expected_port) in [
            ("esx-1", 443, "", &["esx-1", "10.0.0.5"][..], 443),
            ("esx-1", 8443, "esx-1:8443", &["esx-1", "10.0.0.5"], 8443),
            ("", 0, "", &["10.0.0.5"], 443),
            ("", 0, ":902", &["10.0.0.5"], 902),
            ("ESX-1", 0, "esx-1", &["esx-1", "10.0.0.5"], 443),
            ("esx-1", 443, "esx-1.example.com", &["esx-1.example.com", "esx-1", "10.0.0.5"], 443),
            ("10.0.0.5", 443, "10.0.0.5:443", &["10.0.0.5"], 443),
            ("", 0, "[2001:db8::5]:444", &["[2001:db8::5]", "10.0.0.5"], 444),
            ("", 0, "[2001:db8::5]", &["[2001:db8::5]", "10.0.0.5"], 443),
        ] {
            let console = console(host, port, url);
            assert_eq!(console.hosts, hosts, "{host} {port} {url}");
            assert_eq!(console.port.get(), expected_port, "{host} {port} {url}");
            assert_eq!(console.path.0, format!("/ticket/{TICKET}"), "as it is");
        }
    }

    #[test]
    fn the_host_header_has_the_port_where_it_is_not_the_usual_one() {
        assert_eq!(console("esx-1", 443, "").host_header("esx-1"), "esx-1");
        assert_eq!(console("esx-1", 444, "").host_header("[::1]"), "[::1]:444");
    }

    #[test]
    fn an_ipv6_address_has_brackets_in_the_host_header() {
        for (host, port, expected) in [
            ("2001:db8::5", 902, "[2001:db8::5]:902"),
            ("2001:db8::5", 443, "[2001:db8::5]"),
            ("[2001:db8::5]", 902, "[2001:db8::5]:902"),
            ("::ffff:192.0.2.5", 902, "[::ffff:192.0.2.5]:902"),
            ("192.0.2.5", 902, "192.0.2.5:902"),
            ("fe80.example.com", 902, "fe80.example.com:902"),
        ] {
            assert_eq!(console(host, port, "").host_header(host), expected);
        }
    }

    #[test]
    fn a_ticket_that_would_change_the_request_is_none() {
        for wrong in ["a b", "a\r\nHost: x", "ä"] {
            let ticket =
                Ticket { ticket: Secret(wrong.to_owned()), host: None, port: None, url: None };
            let error = WebmksConsole::new(&ticket, "10.0.0.5").unwrap_err().to_string();
            assert!(!error.contains(wrong), "{error}");
        }
    }
}
