//! What a session was granted for: the grant has it as a text, which the gateway returns with the session.

use crate::console_type::{ConsoleType, Protocol};
use crate::text::printable_within;
use crate::tokens::{Record, TokenHash};
use crate::vcenter::reference::{HostRef, MachineRef};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use uuid::Uuid;
use vncgate_api::Access;

/// Longest description, in bytes. The gateway keeps it for as long as the session is open. All but the names that the
/// configuration or Keystone have for callers and projects is bounded. With these it has some 350 bytes, and a character of a
/// name takes 12 at most.
const DESCRIPTION_LIMIT: usize = 8 * 1024;

/// Most characters of names that are for people alone.
const NAME_LIMIT: usize = 100;

/// What a session was granted for. Its text has short names, since the gateway keeps one for each open session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// Instance UUID of the machine. Nil if the description could not be read: see [`Self::parse`].
    #[serde(rename = "i")]
    pub instance: Uuid,
    /// The machine's name when the token was issued.
    #[serde(rename = "m", skip_serializing_if = "Option::is_none")]
    pub machine: Option<Box<str>>,
    /// The service host of the machine's vCenter.
    #[serde(rename = "v")]
    pub vcenter: Box<str>,
    /// How that vCenter refers to the machine.
    #[serde(rename = "mr", skip_serializing_if = "Option::is_none")]
    pub reference: Option<MachineRef>,
    /// The ESXi host's name.
    #[serde(rename = "h")]
    pub host: Box<str>,
    /// How vCenter refers to the host.
    #[serde(rename = "hr", skip_serializing_if = "Option::is_none")]
    pub host_reference: Option<HostRef>,
    /// The console's port, if it is a VNC console.
    #[serde(rename = "vnc", skip_serializing_if = "Option::is_none")]
    pub vnc_port: Option<NonZeroU16>,
    /// The type of console that the caller requested.
    #[serde(rename = "ct", skip_serializing_if = "Option::is_none")]
    pub console_type: Option<ConsoleType>,
    /// To whom the token was issued: [`Record::caller`].
    #[serde(rename = "c")]
    pub caller: Box<str>,
    /// Name and domain of the Keystone user.
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The project for which the caller acted.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    pub project: Option<Box<str>>,
    /// Whether the caller may use the machines of its project alone.
    #[serde(rename = "own", skip_serializing_if = "std::ops::Not::not")]
    pub confined: bool,
    /// The token that opened it.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenHash>,
    /// What the user may do.
    #[serde(rename = "a", skip_serializing_if = "Access::is_control")]
    pub access: Access,
    /// Whether the user may send no clipboard.
    #[serde(rename = "nc", skip_serializing_if = "std::ops::Not::not")]
    pub no_clipboard: bool,
    /// What the link is for, in the words of the one who asked for it.
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    pub label: Option<Box<str>>,
    /// The browser's address.
    #[serde(rename = "from", skip_serializing_if = "Option::is_none")]
    pub client: Option<Box<str>>,
    /// What Envoy is connected to.
    #[serde(rename = "to", skip_serializing_if = "Option::is_none")]
    pub target: Option<SocketAddr>,
    /// When the session has to end at the latest, in milliseconds since the epoch.
    #[serde(rename = "until", skip_serializing_if = "Option::is_none")]
    pub must_end_at: Option<u64>,
    /// How long that is from the grant on, in milliseconds.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<u64>,
}

impl Description {
    /// Of a session that a token opens for the client at this address.
    pub fn new(
        token: Option<TokenHash>,
        record: &Record,
        client: &str,
        target: SocketAddr,
    ) -> Self {
        let name = |text: &str| printable_within(text, NAME_LIMIT).into_boxed_str();
        Self {
            instance: record.instance,
            machine: record.machine_name.as_deref().map(name),
            vcenter: record.service_host.as_str().into(),
            reference: Some(record.machine.clone()),
            host: name(&record.host),
            host_reference: Some(record.host_reference.clone()),
            vnc_port: record.vnc_port,
            console_type: Some(record.console),
            caller: record.caller.as_str().into(),
            user: record.user.as_deref().map(name),
            project: record.project.as_deref().map(Box::from),
            confined: record.containers.is_some(),
            token_id: token,
            access: record.access,
            no_clipboard: !record.clipboard,
            label: record.label.as_deref().map(name),
            client: (!client.is_empty()).then(|| name(client)),
            target: Some(target),
            must_end_at: None,
            lasts: None,
        }
    }

    /// How the console is reached. A description that could not be read has none.
    pub fn protocol(&self) -> Option<Protocol> {
        self.console_type.map(|_| match self.vnc_port {
            Some(_) => Protocol::Vnc,
            None => Protocol::Webmks,
        })
    }

    /// The text that the gateway keeps. It is `application/x-www-form-urlencoded`, so that within JSON nothing of it has to be
    /// escaped.
    pub fn to_text(&self) -> String {
        serde_urlencoded::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_text`] wrote, here or in an authority of another version. A text that is too long or names no
    /// machine gives `None`: the session is one that cannot be told more about.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > DESCRIPTION_LIMIT {
            return None;
        }
        let read: Self = serde_urlencoded::from_str(text).ok()?;
        (!read.instance.is_nil()).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            caller: "keystone:4f1f".to_owned(),
            project: Some("a".to_owned()),
            user: Some("alice@Default".to_owned()),
            machine_name: Some("web-1".to_owned()),
            containers: Some(Vec::new()),
            access: Access::View,
            clipboard: false,
            label: Some("for the auditor".to_owned()),
            ..Record::for_tests()
        }
    }

    #[test]
    fn a_description_reads_back_and_has_no_token() {
        let token = "0a2ee0a4-6a3d-4a86-9d1c-3a5fd7a1a6cf";
        let target = "10.0.0.5:5901".parse().unwrap();
        let own = Description::new(Some(TokenHash::of(token)), &record(), "203.0.113.7", target);
        let text = own.to_text();
        assert!(text.len() < 400 && !text.contains(token), "{text}");
        assert_eq!(Description::parse(&text), Some(own.clone()));
        assert!(own.confined && own.no_clipboard);
        assert_eq!(own.protocol(), Some(Protocol::Vnc));
        let webmks = Description { vnc_port: None, ..own };
        assert_eq!(webmks.protocol(), Some(Protocol::Webmks));
    }

    #[test]
    fn a_description_of_another_version_is_read_as_far_as_it_is_known() {
        let instance = Uuid::from_u128(7);
        let read = Description::parse(&format!("colour=red&i={instance}&c=c")).unwrap();
        assert_eq!(read, Description { instance, caller: "c".into(), ..Description::default() });
        assert_eq!(read.protocol(), None);
    }

    #[test]
    fn what_is_no_description_is_none() {
        let instance = Uuid::from_u128(7);
        let huge = format!("i={instance}&c={}", "x".repeat(DESCRIPTION_LIMIT));
        let twice = format!("i={instance}&i={instance}");
        for wrong in ["", "{}", "i", "i=1", "c=c", &twice, &format!("i={instance}&vnc=0"), &huge] {
            assert_eq!(Description::parse(wrong), None, "{:.40}", wrong);
        }
        let record = Record { machine_name: Some("x".repeat(100_000)), ..record() };
        let long = Description::new(None, &record, "", "10.0.0.5:443".parse().unwrap());
        assert!(long.to_text().len() < 1000);
    }

    #[test]
    fn names_of_any_script_fit() {
        let name = "\u{1f600}".repeat(NAME_LIMIT + 1);
        let record = Record {
            machine_name: Some(name.clone()),
            host: name.clone(),
            user: Some(name.clone()),
            label: Some(name),
            ..record()
        };
        let target = "10.0.0.5:443".parse().unwrap();
        let own = Description::new(Some(TokenHash::of("a")), &record, "2001:db8::7", target);
        assert_eq!(Description::parse(&own.to_text()), Some(own));
    }
}
