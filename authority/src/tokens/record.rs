//! What a token was issued for, and how stores on the network write that down.

use super::token::BrowserDigest;
use crate::console_type::{ConsoleType, Protocol};
use crate::vcenter::reference::{HostRef, MachineRef};
use crate::vcenter::scope::Container;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::num::NonZeroU16;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;
use vncgate_api::Access;

/// RFC 3339 has no later time, and what formats one panics: the last second of the year 9999, since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// What a token was issued for: the fields of nova's console token, and vCenter's references. Of nova's,
/// `internal_access_path` alone has no counterpart: VNC has none, and WebMKS's is made when it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Instance UUID of the machine.
    pub instance: Uuid,
    /// The type of console that the caller requested.
    pub console: ConsoleType,
    /// Which vCenter manages the machine.
    pub service_host: String,
    /// `about.instanceUuid` of that vCenter: two sites may use one service host for two vCenters. `None` in the record of
    /// an authority that did not write it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcenter_uuid: Option<String>,
    /// How that vCenter referred to it at issue.
    pub machine: MachineRef,
    /// Name of the ESXi host that ran the machine at issue.
    pub host: String,
    /// How vCenter referred to that host.
    pub host_reference: HostRef,
    /// `RemoteDisplay.vnc.port` at issue. `None` for a WebMKS console, whose port is in its ticket.
    #[serde(rename = "protocol", alias = "restricted_protocol", with = "stored_protocol")]
    pub vnc_port: Option<NonZeroU16>,
    /// The caller to whom the token was issued: [`TokenLimits::per_caller`](super::TokenLimits) counts by it. Empty in
    /// the record of an older version, which is not counted.
    #[serde(default)]
    pub caller: String,
    /// The project for which the caller acted, if it acted for one.
    #[serde(default)]
    pub project: Option<String>,
    /// The name of the caller's Keystone user, for the log. `None` for a caller with an API token, and in the record of an
    /// older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The machine's name at issue, for the log. `None` in the record of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_name: Option<String>,
    /// The folders and resource pools of the vCenter of which one has to contain the machine, if the caller's scope was
    /// limited to such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<Container>>,
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Access::is_control")]
    pub access: Access,
    /// Whether the user may send a clipboard.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub clipboard: bool,
    /// For whom or what the token is, in its issuer's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The browser that used the token first, where it alone may use it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<BrowserDigest>,
    /// When the token was issued, for people.
    pub issued_at: SystemTime,
    /// When the token expires, for people. The store goes by its own clock.
    pub expires_at: SystemTime,
}

/// Where a console is, in the words of its vCenter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The name of the ESXi host.
    pub host: String,
    /// How vCenter refers to it.
    pub host_reference: HostRef,
    /// The VNC port. `None` for a WebMKS console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc_port: Option<NonZeroU16>,
}

impl Record {
    /// What a token for the same console at another place would stand for.
    #[must_use]
    pub fn at(&self, location: Location) -> Self {
        let Location { host, host_reference, vnc_port } = location;
        Self { host, host_reference, vnc_port, ..self.clone() }
    }

    /// Is the console there?
    pub fn is_at(&self, location: &Location) -> bool {
        let Location { host, host_reference, vnc_port } = location;
        (&self.host, &self.host_reference, &self.vnc_port) == (host, host_reference, vnc_port)
    }

    /// How the console is reached on its host. A token is for one protocol, even if the machine gets the other too.
    pub const fn protocol(&self) -> Protocol {
        match self.vnc_port {
            Some(_) => Protocol::Vnc,
            None => Protocol::Webmks,
        }
    }

    /// Whether the filter has to hold the browser to something.
    pub const fn is_restricted(&self) -> bool {
        matches!(self.access, Access::View) || !self.clipboard
    }

    /// The record as a store on the network keeps it. A replica of a version that knows no restriction must not grant
    /// everything, so it finds no protocol in the record of a restricted token and cannot read it.
    pub(super) fn to_json(&self) -> String {
        let mut written = json!(self);
        if self.is_restricted()
            && let Some(fields) = written.as_object_mut()
            && let Some(protocol) = fields.remove("protocol")
        {
            fields.insert("restricted_protocol".to_owned(), protocol);
        }
        written.to_string()
    }

    /// Reads what [`Self::to_json`] wrote, here or at another replica, perhaps of another version.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let record: Self = serde_json::from_slice(text)?;
        let last = record.issued_at.max(record.expires_at);
        if last.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() > LAST_SECOND) {
            return Err(serde_json::Error::custom("a date after the year 9999"));
        }
        Ok(record)
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// The `protocol` of a stored record: `{"vnc": {"port": 5901}}` or `"webmks"`. Replicas of other versions read it.
mod stored_protocol {
    use crate::console_type::Protocol;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::{Value, json};
    use std::num::NonZeroU16;

    pub(super) fn serialize<S: Serializer>(
        vnc_port: &Option<NonZeroU16>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match vnc_port {
            Some(port) => json!({"vnc": {"port": port}}).serialize(serializer),
            None => Protocol::Webmks.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NonZeroU16>, D::Error> {
        let stored = Value::deserialize(deserializer)?;
        if stored == Protocol::Webmks.as_str() {
            return Ok(None);
        }
        let port = NonZeroU16::deserialize(&stored["vnc"]["port"]).map_err(D::Error::custom)?;
        Ok(Some(port))
    }
}

#[cfg(test)]
impl Record {
    /// A VNC console on `esx-1` that expired long ago, of no caller, for tests to begin with.
    pub(crate) fn for_tests() -> Self {
        Self {
            instance: Uuid::from_u128(1),
            console: ConsoleType::Novnc,
            service_host: "vcenter-a".to_owned(),
            vcenter_uuid: None,
            machine: MachineRef::from("vm-1".to_owned()),
            host: "esx-1".to_owned(),
            host_reference: HostRef::from("host-29".to_owned()),
            vnc_port: NonZeroU16::new(5901),
            caller: String::new(),
            project: None,
            user: None,
            machine_name: None,
            containers: None,
            access: Access::Control,
            clipboard: true,
            label: None,
            browser: None,
            issued_at: SystemTime::UNIX_EPOCH,
            expires_at: SystemTime::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcenter::scope::{ContainerKind, Locator};
    use std::time::Duration;

    fn record() -> Record {
        Record {
            vcenter_uuid: Some("dbed6e0c-bd88-4ef6-b594-21283e1c677f".to_owned()),
            vnc_port: Some(NonZeroU16::MAX),
            caller: "keystone:4f1f".to_owned(),
            project: Some("a".to_owned()),
            user: Some("alice@Default".to_owned()),
            machine_name: Some("web-1".to_owned()),
            expires_at: SystemTime::UNIX_EPOCH + Duration::from_millis(600_001),
            ..Record::for_tests()
        }
    }

    #[test]
    fn a_record_survives_being_written_down() {
        let record = record();
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record, "{written}");
        assert!(!written.contains("containers"), "as every version writes it: {written}");

        let container = |locator| Container {
            service_host: "vcenter-a".to_owned(),
            kind: ContainerKind::Folder,
            locator,
        };
        let path = container(Locator::Path("DC0/vm/a".to_owned()));
        let reference = container(Locator::Reference("group-v4".to_owned()));
        for containers in [vec![], vec![path, reference]] {
            let record = Record { containers: Some(containers), ..self::record() };
            assert_eq!(Record::from_json(record.to_json().as_bytes()).unwrap(), record);
        }
    }

    /// Replicas of different versions share one store.
    #[test]
    fn a_record_of_a_version_that_counted_no_callers_is_read() {
        let mut written = serde_json::to_value(record()).unwrap();
        let fields = written.as_object_mut().unwrap();
        assert!(fields.remove("caller").is_some() && fields.remove("project").is_some());
        let read = Record::from_json(written.to_string().as_bytes()).unwrap();
        assert_eq!(read, Record { caller: String::new(), project: None, ..record() });
    }

    #[test]
    fn the_record_of_a_version_that_did_not_know_vcenter_s_uuid_is_read() {
        let mut written = serde_json::to_value(record()).unwrap();
        written.as_object_mut().unwrap().remove("vcenter_uuid");
        let read = Record::from_json(written.to_string().as_bytes()).unwrap();
        assert_eq!(read, Record { vcenter_uuid: None, ..record() });
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
    }

    /// Until the last replica of that version is stopped, each reads what the other wrote.
    #[test]
    fn the_record_of_a_version_that_did_not_know_names_is_read_and_reads_ours() {
        let of_0_1 = r#"{"instance":"00000000-0000-0000-0000-000000000001","console":"novnc",
            "service_host":"vcenter-a","vcenter_uuid":"dbed6e0c-bd88-4ef6-b594-21283e1c677f",
            "machine":"vm-1","host":"esx-1","host_reference":"host-29",
            "protocol":{"vnc":{"port":65535}},"caller":"keystone:4f1f","project":"a",
            "issued_at":{"secs_since_epoch":0,"nanos_since_epoch":0},
            "expires_at":{"secs_since_epoch":600,"nanos_since_epoch":1000000}}"#;
        let old = Record { user: None, machine_name: None, ..record() };
        assert_eq!(Record::from_json(of_0_1.as_bytes()).unwrap(), old);
        assert_eq!(
            serde_json::to_value(&old).unwrap(),
            serde_json::from_str::<serde_json::Value>(of_0_1).unwrap()
        );

        // That version skips fields that it does not know, and needs those that it does.
        let ours = serde_json::to_value(record()).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(of_0_1).unwrap();
        for (field, value) in theirs.as_object().unwrap() {
            assert_eq!(ours.get(field), Some(value), "{field}");
        }
    }

    #[test]
    fn a_version_that_knows_no_restriction_cannot_read_a_restricted_record() {
        let view = Record { access: Access::View, ..record() };
        let no_clipboard = Record { clipboard: false, label: Some("Bob".to_owned()), ..record() };
        for restricted in [view, no_clipboard] {
            let written = restricted.to_json();
            assert_eq!(Record::from_json(written.as_bytes()).unwrap(), restricted);
            let fields: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(fields.get("protocol"), None, "which that version needs: {written}");
        }
        let labelled = Record { label: Some("Bob".to_owned()), ..record() };
        assert!(labelled.to_json().contains(r#""protocol":"#));
        let both = record().to_json().replace(r#""protocol":"#, r#""restricted_protocol":"#);
        assert_eq!(Record::from_json(both.as_bytes()).unwrap(), record());
    }

    #[test]
    fn a_record_with_a_date_that_cannot_be_written_down_is_none() {
        for (seconds, good) in
            [(253_402_300_799_u64, true), (253_402_300_800, false), (u64::MAX, false)]
        {
            for key in ["issued_at", "expires_at"] {
                let mut written = serde_json::to_value(record()).unwrap();
                written[key] = json!({"secs_since_epoch": seconds, "nanos_since_epoch": 0});
                let read = Record::from_json(written.to_string().as_bytes());
                assert_eq!(read.is_ok(), good, "{key} {seconds}");
                if let Ok(Record { expires_at, .. }) = read {
                    humantime::format_rfc3339_seconds(expires_at).to_string();
                }
            }
        }
    }

    /// Replicas of different versions share one store.
    #[test]
    fn the_stored_protocol_is_the_one_that_every_version_writes() {
        for (vnc_port, stored) in
            [(NonZeroU16::new(5901), json!({"vnc": {"port": 5901}})), (None, json!("webmks"))]
        {
            let record = Record { vnc_port, ..record() };
            assert_eq!(serde_json::to_value(&record).unwrap()["protocol"], stored);
            assert_eq!(Record::from_json(record.to_json().as_bytes()).unwrap(), record);
        }
        for wrong in [json!("vnc"), json!({"vnc": {"port": 0}}), json!({"vnc": {}}), json!(5901)] {
            let mut written = serde_json::to_value(record()).unwrap();
            written["protocol"] = wrong;
            assert!(Record::from_json(written.to_string().as_bytes()).is_err(), "{written}");
        }
    }
}
