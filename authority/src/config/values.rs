//! Values that several sections have: passwords, certificates, URLs, names that must differ.

use super::section::Section;
use crate::password::PasswordFile;
use crate::tls::{LoadedTrust, Trust};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use url::{Host, Url};

/// The file of a password, which has to hold a good one now. Each login reads it again.
pub(super) fn read_password(section: &mut Section<'_>, key: &str) -> Option<PasswordFile> {
    if !section.has(key) {
        section.problem(key, "is missing: a file that holds the password and nothing else");
    }
    let file = PasswordFile::new(section.file(key)?);
    section.ok(key, file.read_blocking())?;
    Some(file)
}

pub(super) fn read_tls(section: &mut Section<'_>, url: Option<&Url>) -> Option<LoadedTrust> {
    if section.has("ca_file") && section.has("certificate_sha256") {
        section.problem("certificate_sha256", "cannot be combined with ca_file: choose one");
    }
    let pinned = section.has("certificate_sha256");
    let thumbprints = section.each_parsed("certificate_sha256", parse_sha256);
    let ca_file = section.file("ca_file").map(Trust::CaFile);
    let (trust, key) = match (ca_file, pinned) {
        (Some(ca_file), _) => (ca_file, "ca_file"),
        (None, true) => (Trust::Pinned(thumbprints?), "certificate_sha256"),
        (None, false) => (Trust::System, "ca_file"),
    };
    let trust = if url?.scheme() == "http" { Trust::Nothing } else { trust };
    section.ok(key, trust.load())
}

/// Parses 32 bytes in hexadecimal, upper or lower case, with or without the colons of `openssl x509
/// -fingerprint`.
pub(super) fn parse_sha256(text: &str) -> Result<[u8; 32], &'static str> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.replace(':', ""), &mut bytes)
        .map_err(|_| "must be a SHA-256: 64 hexadecimal digits")?;
    Ok(bytes)
}

/// Parses the URL of a service that receives a password. Plain HTTP, which carries the password in clear text,
/// is accepted for loopback addresses: a TLS proxy on the same machine.
pub(super) fn parse_service_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return Err("must begin with https:// (http is for loopback addresses)".to_owned());
        }
        _ => return Err("must begin with https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password: use the keys for them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path".to_owned());
    }
    check_port(&url)?;
    Ok(url)
}

/// Parses a range of TCP ports, `5900-6105`.
pub(super) fn parse_ports(text: &str) -> Result<RangeInclusive<NonZeroU16>, &'static str> {
    let bounds = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<NonZeroU16>().ok()?, last.trim().parse::<NonZeroU16>().ok()?))
    });
    match bounds {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err("must be a range of TCP ports such as \"5900-6105\""),
    }
}

/// Parses networks in CIDR notation, `192.0.2.0/24`, and single addresses.
pub(super) fn parse_networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let parse = |text: &String| {
        let address = || text.parse().map(|address: IpAddr| IpNet::from(address)).ok();
        let network = text.parse().ok().or_else(address);
        let network = network
            .ok_or_else(|| format!("must be networks such as \"192.0.2.0/24\", not {text:?}"))?;
        check_family(network)
    };
    texts.iter().map(parse).collect()
}

/// Refuses IPv4 networks in the notation of IPv6: addresses are compared in their own notation, so none is in them.
pub(super) fn check_family(network: IpNet) -> Result<IpNet, String> {
    match network {
        IpNet::V6(mapped) if mapped.addr().to_ipv4_mapped().is_some() => {
            Err(format!("{network} has to be written as an IPv4 network"))
        }
        _ => Ok(network),
    }
}

/// Refuses port 0, at which nothing listens.
pub(super) fn check_port(url: &Url) -> Result<(), String> {
    if url.port() == Some(0) { Err("must not have port 0".to_owned()) } else { Ok(()) }
}

pub(super) fn first_duplicate<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_range() {
        let ports = parse_ports("5900 - 6105").unwrap();
        assert_eq!((ports.start().get(), ports.end().get()), (5900, 6105));
        assert!(parse_ports("5900-5900").is_ok());
        for wrong in ["", "5900", "-5900", "0-1", "6105-5900", "1-65536", "a-b"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_written_as_cidr_or_as_one_address() {
        let parse = |text: &str| parse_networks(&[text.to_owned()]).map(|mut all| all.remove(0));
        assert_eq!(parse("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(parse("192.0.2.5").unwrap().to_string(), "192.0.2.5/32");
        assert_eq!(parse("::1").unwrap().to_string(), "::1/128");
        assert_eq!(parse("::/0").unwrap().to_string(), "::/0");
        for mapped in ["::ffff:10.0.0.0/104", "::ffff:192.0.2.5"] {
            let told = parse(mapped).unwrap_err();
            assert!(told.contains("has to be written as an IPv4 network"), "{told}");
        }
        for wrong in ["", "localhost", "192.0.2.0/33", "192.0.2", "192.0.2.0-192.0.2.9"] {
            assert!(parse(wrong).unwrap_err().contains("must be networks"), "{wrong}");
        }
    }
}
