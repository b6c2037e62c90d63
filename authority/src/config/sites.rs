//! `[peer]`, `[[site]]` and `[listen] peer`: the authorities of other sites.

use super::section::Section;
use super::values::{check_family, check_port, first_duplicate};
use crate::sites::tls::{PeerFiles, PeerName, PeerTls};
use crate::sites::{SiteConfig, Sites};
use crate::telemetry::Metrics;
use crate::tls::server::TlsFileError;
use ipnet::IpNet;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Default of `[[site]] timeout`. The other site asks the store and a vCenter, which take 3.5 s at most by
/// default, and the filter's default timeout is 5 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(4);
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
const MOST_TIMEOUT: Duration = Duration::from_secs(60);

/// Other sites: where to send requests, and who may send them.
#[derive(Debug)]
pub struct SitesConfig {
    /// `[[site]]`, at least one.
    pub sites: Vec<SiteConfig>,
    /// `[peer]`.
    pub files: PeerFiles,
    /// Presents this authority's certificate to them, and verifies theirs.
    pub tls: ClientConfig,
    /// `[listen] peer`: where this authority accepts their requests, if it does.
    pub peer: Option<(SocketAddr, PeerTls)>,
}

impl SitesConfig {
    /// Creates the sites' clients. They connect at their first requests.
    pub fn build(self, metrics: &Arc<Metrics>) -> Result<Sites, reqwest::Error> {
        Sites::new(self.sites, self.files, self.tls, metrics)
    }
}

/// `service_hosts` are those of the configured vCenters, and `shared_store` says whether other sites know this
/// authority's tokens at all. `None` without other sites, or if a problem was noted.
pub(super) fn read_sites(
    root: &mut Section<'_>,
    peer: Option<SocketAddr>,
    service_hosts: &[&str],
    shared_store: bool,
) -> Option<SitesConfig> {
    let (has_sites, has_credentials) = (root.has("site"), root.has("peer"));
    let sites = root.sections("site", |section| read_site(section, service_hosts));
    let credentials = has_credentials.then(|| read_credentials(root.section("peer")));
    if !has_sites {
        if has_credentials {
            root.problem("peer", "has no use without a [[site]]");
        }
        if peer.is_some() {
            root.problem(
                "listen.peer",
                "has no use without a [[site]], which alone may connect there",
            );
        }
        return None;
    }
    check_distinct(root, &sites);
    if !shared_store {
        let reason = "needs [tokens] store = \"redis\" or \"memcached\": other sites know a token by the \
                      store that they share";
        root.problem("site", reason);
    }
    if credentials.is_none() {
        root.problem(
            "peer",
            "is missing: [[site]] needs the certificate that they know this one by",
        );
    }
    let (files, tls) = credentials.flatten()?;
    let (sites, peers): (Vec<_>, Vec<_>) =
        sites.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let peer = match peer {
        Some(address) => {
            let tls = PeerTls::read(&files, peers).map_err(|errors| {
                for TlsFileError { key, reason } in errors {
                    root.problem(&format!("peer.{}", key.trim_start_matches("client_")), reason);
                }
            });
            Some((address, tls.ok()?))
        }
        None => None,
    };
    Some(SitesConfig { sites, files, tls, peer })
}

/// Sites are identified in logs by their names, at the handshake by their hosts, and at a check by their
/// service hosts. So all of these have to differ.
fn check_distinct(root: &mut Section<'_>, sites: &[Option<(SiteConfig, PeerName)>]) {
    let known = || sites.iter().flatten().map(|(site, _)| site);
    if let Some(twice) = first_duplicate(known().map(|site| site.name.as_str())) {
        root.problem("site", format!("two have the name {twice:?}"));
    }
    if let Some(twice) = first_duplicate(known().filter_map(|site| site.url.host_str())) {
        root.problem(
            "site",
            format!("two have the host {twice:?}: their certificates are the same"),
        );
    }
    let owned = known().flat_map(|site| &site.service_hosts).map(String::as_str);
    if let Some(twice) = first_duplicate(owned) {
        root.problem("site", format!("the service host {twice:?} is there twice"));
    }
}

/// The files, and what they make for requests to other sites.
fn read_credentials(mut section: Section<'_>) -> Option<(PeerFiles, ClientConfig)> {
    for key in ["certificate_file", "key_file", "ca_file"] {
        if !section.has(key) {
            section.problem(key, "is missing: a PEM file");
        }
    }
    let certificate = section.file("certificate_file");
    let key = section.file("key_file");
    let ca = section.file("ca_file");
    let files = || Some(PeerFiles { certificate: certificate?, key: key?, ca: ca? });
    let read = files().and_then(|files| {
        let note = |TlsFileError { key, reason }| section.problem(key, reason);
        let tls = files.client_config();
        let tls = tls.map_err(|errors| errors.into_iter().for_each(note)).ok()?;
        Some((files, tls))
    });
    section.end();
    read
}

fn read_site(mut section: Section<'_>, own: &[&str]) -> Option<(SiteConfig, PeerName)> {
    let name = section.required_string("name");
    let url = section.required_string("url").and_then(|url| section.ok("url", parse_url(&url)));
    let service_hosts = section.strings("service_hosts");
    if service_hosts.as_ref().is_some_and(Vec::is_empty) {
        section.problem(
            "service_hosts",
            "is missing: the service_host of each of the site's vCenters",
        );
    }
    let ours = |name: &&String| own.contains(&name.as_str());
    if let Some(name) = service_hosts.iter().flatten().find(ours) {
        section.problem("service_hosts", format!("{name:?} is a [[vcenter]] of this file"));
    }
    let networks = section.strings("networks").and_then(|networks| {
        let networks = networks.iter().map(|network| parse_network(network));
        section.ok("networks", networks.collect::<Result<Vec<_>, _>>())
    });
    let timeout = section.duration_or("timeout", DEFAULT_TIMEOUT, LEAST_TIMEOUT..=MOST_TIMEOUT);
    section.end();
    let (name, (url, host)) = (name?, url?);
    let peers = PeerName { site: name.as_str().into(), host };
    let site = SiteConfig {
        name,
        url,
        service_hosts: service_hosts?,
        networks: networks?,
        timeout: timeout?,
    };
    Some((site, peers))
}

/// Parses `ADDRESS/LENGTH`, in which no bit after the first LENGTH is set.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network: IpNet =
        text.parse().map_err(|_| format!("must be networks such as 10.8.0.0/16, not {text:?}"))?;
    if network.addr() == network.network() {
        check_family(network)
    } else {
        Err(format!("{text:?} is an address in the network {}", network.trunc()))
    }
}

/// Parses the URL of another authority's peer listener, and the name that its certificate has to be for.
fn parse_url(text: &str) -> Result<(Url, ServerName<'static>), String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if url.scheme() != "https" {
        return Err("must begin with https://".to_owned());
    }
    let bare = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    if !bare || url.query().is_some() || url.fragment().is_some() {
        return Err("must be https://HOST:PORT and nothing else".to_owned());
    }
    check_port(&url)?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = ServerName::try_from(host.to_owned()).map_err(|_| "must name a host".to_owned())?;
    Ok((url, host))
}
