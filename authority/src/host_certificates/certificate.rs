//! A host's certificate, as vCenter knows it.

use super::pin::Pin;
use crate::vcenter::host::Host;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a host cannot be identified by its certificate.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HostCertificateError {
    /// vCenter does not return the certificate, or returns something else.
    #[error("vCenter does not report the host's certificate")]
    Unknown,
    /// It is past its `notAfter`, or before its `notBefore`.
    #[error("the host's certificate has expired or is not valid yet")]
    OutOfDate,
}

/// A host's certificate that is valid now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificate {
    sha256: [u8; 32],
    /// The DNS names among its subject alternative names.
    names: Vec<String>,
}

impl HostCertificate {
    /// Reads the certificate that vCenter returned for `host`.
    pub fn of(host: &Host, now: SystemTime) -> Result<Self, HostCertificateError> {
        let pem = host.certificate.as_deref().ok_or(HostCertificateError::Unknown)?;
        // Hash the DER: hosts break their PEM into lines of any length.
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| HostCertificateError::Unknown)?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| HostCertificateError::Unknown)?;
        let validity = certificate.validity();
        let valid = validity.not_before.timestamp()..=validity.not_after.timestamp();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !i64::try_from(now).is_ok_and(|now| valid.contains(&now)) {
            return Err(HostCertificateError::OutOfDate);
        }
        Ok(Self { sha256: Sha256::digest(&der).into(), names: dns_names(&certificate) })
    }

    /// The fingerprint by which Envoy accepts it.
    pub fn pin(&self) -> Pin {
        Pin::new(self.sha256)
    }

    /// The name to send as SNI and to require in the certificate: the first of `hosts` that the certificate is for, else
    /// one of the certificate's own names. IP addresses do not qualify (RFC 6066, section 3), nor does `localhost`, the
    /// name in the certificate of a host that was never given one.
    pub fn server_name(&self, hosts: &[String]) -> Option<String> {
        let requested = hosts.iter().find(|host| self.names.iter().any(|name| is_for(name, host)));
        let own = || self.names.iter().find(|name| is_specific(name));
        requested.or_else(own).cloned()
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

/// RFC 6125, section 6.4.3: a wildcard is the whole first label and stands for one label.
fn is_for(name: &str, host: &str) -> bool {
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(parent), Some((_, domain))) => parent.eq_ignore_ascii_case(domain),
        _ => is_specific(name) && name.eq_ignore_ascii_case(host),
    }
}

fn is_specific(name: &str) -> bool {
    let label = name.split('.').next().unwrap_or_default();
    !name.starts_with("*.") && !label.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcenter::reference::HostRef;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::time::Duration;

    fn host(pem: Option<String>) -> Host {
        Host {
            reference: HostRef::from("host-29".to_owned()),
            name: "10.0.0.5".to_owned(),
            version: None,
            certificate: pem,
            addresses: Vec::new(),
        }
    }

    fn pem(names: &[&str], years: [i32; 2]) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years[0], 1, 1);
        params.not_after = date_time_ymd(years[1], 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn at(year: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs((year - 1970) * 365 * 24 * 60 * 60 + 30 * 24 * 60 * 60)
    }

    #[test]
    fn a_certificate_counts_while_it_is_valid() {
        let host = host(Some(pem(&["esx-1"], [2020, 2030])));
        assert!(HostCertificate::of(&host, at(2025)).is_ok());
        for year in [1970, 2019, 2031] {
            let answer = HostCertificate::of(&host, at(year));
            assert_eq!(answer, Err(HostCertificateError::OutOfDate), "{year}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_certificate_is_unknown() {
        let good = pem(&["esx-1"], [2020, 2030]);
        let damaged = good.replacen("MII", "AAA", 1);
        for wrong in [None, Some(String::new()), Some("x".to_owned()), Some(damaged)] {
            let answer = HostCertificate::of(&host(wrong), at(2025));
            assert_eq!(answer, Err(HostCertificateError::Unknown));
        }
    }

    #[test]
    fn the_pin_does_not_depend_on_the_lines_of_the_pem() {
        let pem = pem(&["esx-1"], [2020, 2030]);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let mut long = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in body.as_bytes().chunks(76) {
            long.push_str(std::str::from_utf8(line).unwrap());
            long.push('\n');
        }
        long.push_str("-----END CERTIFICATE-----\n");
        let pin = |pem| HostCertificate::of(&host(Some(pem)), at(2025)).unwrap().pin();
        assert_eq!(pin(long), pin(pem));
    }

    #[test]
    fn the_server_name_is_one_that_the_certificate_carries() {
        for (names, hosts, expected) in [
            (
                &["esx-1.example.com"][..],
                &["esx-1.example.com", "10.0.0.5"][..],
                Some("esx-1.example.com"),
            ),
            (&["esx-1.example.com", "esx-1"], &["10.0.0.5", "ESX-1"], Some("ESX-1")),
            (&["esx-1.example.com"], &["10.0.0.5"], Some("esx-1.example.com")),
            (&["*.example.com"], &["esx-1.example.com"], Some("esx-1.example.com")),
            (&["*.example.com"], &["a.esx-1.example.com", "example.com"], None),
            (&["localhost.localdomain"], &["localhost.localdomain"], None),
            (&["localhost", "esx-1"], &["10.0.0.5"], Some("esx-1")),
            (&["10.0.0.5"], &["10.0.0.5"], None),
            (&[], &["esx-1"], None),
        ] {
            let host = host(Some(pem(names, [2020, 2030])));
            let certificate = HostCertificate::of(&host, at(2025)).unwrap();
            let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
            let found = certificate.server_name(&hosts);
            assert_eq!(found.as_deref(), expected, "{names:?} {hosts:?}");
        }
    }
}
