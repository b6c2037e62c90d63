//! Tries one machine's console as far as its ESXi host, from this machine. Envoy's way there may be another one.

use super::report::{Report, Severity};
use crate::console_type::Protocol;
use crate::http_client;
use crate::resolver::Resolver;
use crate::tls::Trust;
use crate::vcenter::Vcenter;
use crate::vcenter::host::Host;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::{LocatedMachine, Vcenters};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an ESXi host may take to accept a connection and to begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What an RFB server sends first (RFC 6143, 7.1.1).
const RFB: [u8; 3] = *b"RFB";

/// Tries the console of each machine that has this name or instance UUID. Returns those whose consoles are good.
pub async fn try_machine(
    vcenters: &Vcenters,
    named: &str,
    report: &mut Report,
) -> Vec<Arc<VirtualMachine>> {
    let name = named.to_owned();
    let is_meant = move |machine: &VirtualMachine| {
        machine.name == name || machine.instance.is_some_and(|uuid| uuid.to_string() == name)
    };
    let (found, failed) = vcenters.list(&Scope::Everything, is_meant).await;
    for (service_host, error) in failed {
        report.problem(
            "machine",
            format!("{service_host} does not list its machines: {error}"),
            "see the findings about that vCenter",
        );
    }
    if found.is_empty() {
        report.problem(
            "machine",
            format!("no machine is named {named:?}"),
            "compare the name; the account needs Read-only on the machine and the folders above it",
        );
    }
    let mut good = Vec::new();
    for LocatedMachine { vcenter, machine, .. } in found {
        let before = report.findings.len();
        try_console(vcenter, &machine, report).await;
        let mut findings = report.findings.iter().skip(before);
        if findings.all(|finding| finding.severity == Severity::Good) {
            good.push(machine);
        }
    }
    good
}

async fn try_console(vcenter: &Vcenter, machine: &VirtualMachine, report: &mut Report) {
    let name = &machine.name;
    let Some(host) = &machine.host else {
        report.problem(
            "machine_host",
            format!("vCenter does not tell the host of {name}"),
            "give the account the role Read-only on the host and the folders above it",
        );
        return;
    };
    match vcenter.consoles().protocol(machine) {
        Some(Protocol::Vnc) => try_vnc(machine, host, report).await,
        Some(Protocol::Webmks) => try_webmks(vcenter, machine, host, report).await,
        None => report.problem(
            "machine_console",
            format!("{name} has no console of the kind that the [[vcenter]] allows"),
            "switch VNC on for the machine, set [vcenter.enable_vnc], or set console to auto or webmks",
        ),
    }
}

async fn try_vnc(machine: &VirtualMachine, host: &Host, report: &mut Report) {
    let name = &machine.name;
    let Some(port) = machine.vnc_port else {
        report.warn(
            "machine_vnc",
            format!("{name} has no VNC port yet; one is chosen when a console is asked for"),
            "ask for a console once, then run this again",
        );
        return;
    };
    let ip = match Resolver::new().resolve(&host.name).await {
        Ok(ip) => ip,
        Err(error) => {
            let mend = "have this machine's resolver know the ESXi host by that name";
            report.problem("host_unresolved", error.to_string(), mend);
            return;
        }
    };
    let address = SocketAddr::new(ip, port.get());
    let began = timeout(ANSWER_TIMEOUT, async {
        let mut begun = [0; RFB.len()];
        TcpStream::connect(address).await?.read_exact(&mut begun).await?;
        Ok::<_, std::io::Error>(begun)
    });
    match began.await {
        Ok(Ok(RFB)) => report.good("esxi_vnc", format!("{name} has a console at {address}")),
        Ok(Ok(_)) => report.problem(
            "esxi_vnc",
            format!("what listens at {address} is no VNC console"),
            "look which service of the ESXi host has the port, and give the machine another one",
        ),
        Ok(Err(error)) => report.problem(
            "esxi_vnc",
            format!("{address}: {error}"),
            "open the VNC ports in the ESXi host's firewall and on the way there, or set console = \"webmks\"",
        ),
        Err(_) => report.problem(
            "esxi_vnc",
            format!("{address} does not answer within {ANSWER_TIMEOUT:?}"),
            "open the VNC ports in the ESXi host's firewall and on the way there, or set console = \"webmks\"",
        ),
    }
}

async fn try_webmks(vcenter: &Vcenter, machine: &VirtualMachine, host: &Host, report: &mut Report) {
    let name = &machine.name;
    // An unused ticket ends by itself.
    let console = match vcenter.acquire_ticket(&machine.reference, host).await {
        Ok(console) => console,
        Err(error) => {
            let (found, mend) = match error.missing_privilege() {
                Some(privilege) => (
                    format!("the account lacks the privilege {privilege} on {name}"),
                    "give the account VirtualMachine.Interact.ConsoleInteract on the machines",
                ),
                None => (
                    format!("no ticket for {name}: {error}"),
                    "power the machine on, and see vCenter's events",
                ),
            };
            report.problem("webmks_ticket", found, mend);
            return;
        }
    };
    report.good("webmks_ticket", format!("vCenter gives a ticket for {name}"));
    let certificate = match vcenter.hosts().await {
        Ok(hosts) => hosts.into_iter().find(|one| one.reference == host.reference),
        Err(error) => {
            let mend = "see the findings about that vCenter";
            report.problem("esxi_certificate", error.to_string(), mend);
            return;
        }
    };
    let pem = certificate.and_then(|host| host.certificate).unwrap_or_default();
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        report.problem(
            "esxi_certificate",
            format!("vCenter does not tell the certificate of {}", host.name),
            "give the account the role Read-only on the host",
        );
        return;
    };
    let resolver = Resolver::new();
    let (_, ip) = match resolver.resolve_first(&console.hosts).await {
        Ok(resolved) => resolved,
        Err(error) => {
            let mend = "have this machine's resolver know the ESXi host by that name";
            report.problem("host_unresolved", error.to_string(), mend);
            return;
        }
    };
    let address = SocketAddr::new(ip, console.port.get());
    match greet(address, &der).await {
        Ok(()) => report.good("esxi_webmks", format!("{address} shows the certificate that vCenter knows")),
        Err(reason) => report.problem(
            "esxi_webmks",
            format!("{address}: {reason}"),
            "open the host's HTTPS port on the way there; if the certificate is another one, reconnect the host in vCenter",
        ),
    }
}

/// Whether a host answers by HTTPS and shows this certificate. What it answers does not matter.
async fn greet(address: SocketAddr, certificate: &CertificateDer<'_>) -> Result<(), String> {
    let trust = Trust::Pinned(vec![Sha256::digest(certificate).into()]);
    let tls = trust.client_config().map_err(|error| error.to_string())?;
    let http = http_client::builder(tls).timeout(ANSWER_TIMEOUT).build();
    let http = http.map_err(|error| error.to_string())?;
    let answer = http.get(format!("https://{address}/")).send().await;
    answer.map(|_| ()).map_err(http_client::explain)
}
