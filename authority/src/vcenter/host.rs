//! An ESXi host, as far as consoles are concerned, read from vSphere's properties.

use super::reference::HostRef;
use super::soap::ObjectContent;
use crate::text::printable;
use std::net::IpAddr;

pub(super) const NAME: &str = "name";
pub(super) const VERSION: &str = "summary.config.product.version";
/// The host's own certificate in PEM. It takes some 30 KiB on the wire: vSphere writes each byte as an
/// element.
pub(super) const CERTIFICATE: &str = "config.certificate";

/// The host's own network interfaces (`HostVirtualNic`), of which the addresses are read.
pub(super) const ADDRESSES: &str = "config.network.vnic";

/// The first version without a VNC server.
const WITHOUT_VNC: u32 = 7;

/// The properties of a host that its consoles depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// How vCenter refers to it.
    pub reference: HostRef,
    /// Its name in the inventory: an IP address or a domain name.
    pub name: String,
    /// Version of ESXi, `7.0.3`. Absent while vCenter has not reached the host.
    pub version: Option<String>,
    /// Its certificate in PEM, if it was read and vCenter has it.
    pub certificate: Option<String>,
    /// The addresses of its VMkernel interfaces, the management address among them, if they were read.
    pub addresses: Vec<IpAddr>,
}

impl Host {
    /// `None` for an object without a name, which vCenter withholds from accounts that may not read it.
    pub(super) fn of(object: &ObjectContent) -> Option<Self> {
        let property = |path| object.property(path).map(str::to_owned);
        let addresses = object.property(ADDRESSES).unwrap_or_default().split_whitespace();
        Some(Self {
            reference: HostRef::from(object.id.clone()),
            name: printable(object.property(NAME)?),
            version: property(VERSION),
            certificate: property(CERTIFICATE),
            addresses: addresses.filter_map(|address| address.parse().ok()).collect(),
        })
    }

    /// Can its machines have VNC consoles? True up to version 6.7, false for a host of unknown version.
    pub fn offers_vnc(&self) -> bool {
        let major = self.version.as_deref().and_then(|version| version.split('.').next());
        major.and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < WITHOUT_VNC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vnc_ends_with_version_7() {
        for (version, offered) in [
            (Some("5.5.0"), true),
            (Some("6.7.0"), true),
            (Some("7.0.0"), false),
            (Some("8.0.2"), false),
            (Some("10.0"), false),
            (Some(""), false),
            (Some("x"), false),
            (None, false),
        ] {
            let host = Host {
                reference: HostRef::from("host-29".to_owned()),
                name: "esx-1".to_owned(),
                version: version.map(str::to_owned),
                certificate: None,
                addresses: Vec::new(),
            };
            assert_eq!(host.offers_vnc(), offered, "{version:?}");
        }
    }
}
