//! Tries every service that the configuration names, as the authority does.

use super::report::Report;
use crate::console_type::ConsoleType;
use crate::identity::keystone::{Keystone, KeystoneError};
use crate::identity::policy::Policy;
use crate::resolver::Resolver;
use crate::sites::{SiteError, SiteRequest, Sites};
use crate::tokens::{Record, StoreUnavailable, TokenHash, TokenLimits, TokenStore};
use crate::vcenter::Vcenter;
use crate::vcenter::machine::VirtualMachine;
use crate::vcenter::privileges::{POWER, SCREENSHOT};
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::Vcenters;
use crate::vcenter::watch::WatchStatus;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};
use url::Url;
use uuid::Uuid;
use vncgate_api::{Access, Refusal, RefusalCode};

/// The most by which vCenter's clock may differ. Certificates and Keystone's tokens are read by the clock.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// No authority and no Keystone issues it as a token, and no machine is in a vCenter of this name.
const DOCTOR: &str = "vncgate-doctor";

/// How long the token is kept by which the store is tried, if it cannot be removed.
const TRIED_TOKEN: Duration = Duration::from_secs(10);

/// Hosts whose names are resolved, at most.
const RESOLVED_HOSTS: usize = 1000;

/// Machines of one vCenter on which the account's privileges are asked for, at most. Roles are given on folders, so that
/// those of a few machines are those of most.
const ASKED_MACHINES: usize = 50;

/// How long the inventory may take until it is watched, and how often that is looked at. The largest takes a minute.
const WATCH_LIMIT: Duration = Duration::from_secs(90);
const WATCH_LOOK: Duration = Duration::from_millis(100);

/// Logs in to each vCenter, compares its clock, watches its inventory, lists its hosts and resolves their names.
pub async fn try_vcenters(vcenters: &Vcenters, report: &mut Report) {
    vcenters.start_watches();
    for vcenter in vcenters.iter() {
        try_vcenter(vcenter, report).await;
    }
}

async fn try_vcenter(vcenter: &Vcenter, report: &mut Report) {
    let name = vcenter.service_host();
    match vcenter.current_time().await {
        Ok(there) => {
            report.good("vcenter_login", format!("logged in to {name}"));
            compare_clocks(name, there, report);
        }
        Err(error) => {
            let mend = match error.is_login() {
                true => {
                    "compare username and password_file of the [[vcenter]] with vCenter's account"
                }
                false => {
                    "compare url, ca_file and certificate_sha256 of the [[vcenter]], and the way there"
                }
            };
            report.problem("vcenter_login", format!("{name}: {error}"), mend);
            return;
        }
    }
    try_watch(vcenter, report).await;
    match vcenter.hosts().await {
        Ok(hosts) if hosts.is_empty() => report.problem(
            "vcenter_hosts",
            format!("{name}: the account sees no ESXi host"),
            "give the account the role Read-only on the hosts and the folders above them (System.View, System.Read)",
        ),
        Ok(hosts) => {
            report.good("vcenter_hosts", format!("{name}: {} ESXi hosts", hosts.len()));
            let resolver = Resolver::new();
            for host in hosts.iter().take(RESOLVED_HOSTS) {
                if let Err(error) = resolver.resolve(&host.name).await {
                    report.problem(
                        "host_unresolved",
                        format!("{name}: {error}"),
                        "have this machine's resolver know the ESXi hosts by the names that vCenter has",
                    );
                }
            }
        }
        Err(error) => report.problem(
            "vcenter_hosts",
            match error.missing_privilege() {
                Some(privilege) => format!("{name}: the account lacks the privilege {privilege}"),
                None => format!("{name}: {error}"),
            },
            "give the account the role Read-only on the hosts and the folders above them",
        ),
    }
}

/// Asks each vCenter whether its account has what the rights of the policy need, on some of its machines.
pub async fn try_privileges(vcenters: &Vcenters, policy: &Policy, report: &mut Report) {
    for (right, roles, privileges) in
        [("power", &policy.power, &POWER[..]), ("screenshot", &policy.screenshot, &SCREENSHOT[..])]
    {
        if roles.is_empty() {
            continue;
        }
        // A vCenter that lists none has its finding already.
        let (located, _) = vcenters.list(&Scope::Everything, |_| true).await;
        for vcenter in vcenters.iter() {
            let name = vcenter.service_host();
            let own = located.iter().filter(|located| located.vcenter.service_host() == name);
            let own: Vec<_> = own.map(|located| &*located.machine).take(ASKED_MACHINES).collect();
            if !own.is_empty() {
                try_privileges_of(vcenter, &own, right, privileges, report).await;
            }
        }
    }
}

async fn try_privileges_of(
    vcenter: &Vcenter,
    machines: &[&VirtualMachine],
    right: &str,
    privileges: &[&str],
    report: &mut Report,
) {
    let name = vcenter.service_host();
    let references: Vec<_> = machines.iter().map(|machine| machine.reference.clone()).collect();
    let missing = match vcenter.missing_privileges(&references, privileges).await {
        Ok(missing) => missing,
        Err(error) => {
            report.untried(
                "vcenter_privileges",
                format!("{name} does not tell the account's privileges: {error}"),
                "compare the account's role with docs/vsphere.md",
            );
            return;
        }
    };
    if missing.is_empty() {
        report.good("vcenter_privileges", format!("{name}: the account may do what {right} needs"));
    }
    for privilege in privileges {
        let lacking = missing.iter().filter(|(_, lacking)| lacking == privilege);
        let lacking: Vec<_> = lacking.map(|(machine, _)| machine).collect();
        let Some(first) = lacking.first() else { continue };
        let first = machines.iter().find(|machine| machine.reference == **first);
        let first = first.map_or("a machine", |machine| &machine.name);
        report.problem(
            "vcenter_privileges",
            format!(
                "{name}: for the right {right}, the account lacks {privilege} on {} of {} machines, such as {first}",
                lacking.len(),
                machines.len()
            ),
            "give the account that privilege on the machines or the folders above them, or take the right out of [auth.policy]",
        );
    }
}

/// Logs an event in each vCenter, where the configuration wants events about consoles.
pub async fn try_events(vcenters: &Vcenters, report: &mut Report) {
    for vcenter in vcenters.iter() {
        let name = vcenter.service_host();
        match vcenter.log_event(None, "vncgate: doctor has tried to log an event").await {
            Ok(()) => report.good("vcenter_events", format!("{name} takes events about consoles")),
            Err(error) => report.problem(
                "vcenter_events",
                match error.missing_privilege() {
                    Some(privilege) => {
                        format!("{name}: the account lacks the privilege {privilege}")
                    }
                    None => format!("{name}: {error}"),
                },
                "give the account Global.LogEvent, or set audit.vcenter_events = false",
            ),
        }
    }
}

async fn try_watch(vcenter: &Vcenter, report: &mut Report) {
    let name = vcenter.service_host();
    let begun = Instant::now();
    let status = loop {
        match vcenter.watch().status() {
            WatchStatus::Filling if begun.elapsed() < WATCH_LIMIT => sleep(WATCH_LOOK).await,
            status => break status,
        }
    };
    let mend = "give the account the role Read-only on the root folder, with propagation (System.View, System.Read); \
                until then listings ask vCenter each time, and open consoles do not end with their machines";
    match status {
        WatchStatus::Current { machines, .. } => {
            report.good("vcenter_watch", format!("{name}: watches {machines} machines"));
        }
        WatchStatus::Filling => report.warn(
            "vcenter_watch",
            format!("{name}: its inventory was not read within {WATCH_LIMIT:?}"),
            "see how busy vCenter is",
        ),
        WatchStatus::Failed(reason) => {
            report.problem("vcenter_watch", format!("{name}: {reason}"), mend);
        }
    }
}

fn compare_clocks(name: &str, there: Option<SystemTime>, report: &mut Report) {
    let here = SystemTime::now();
    let Some(there) = there else { return };
    let skew = here.duration_since(there).unwrap_or_else(|before| before.duration());
    if skew > CLOCK_SKEW {
        let skew = humantime::format_duration(Duration::from_secs(skew.as_secs()));
        report.warn(
            "clock_skew",
            format!("the clock of {name} differs by {skew}"),
            "have both machines keep time by NTP",
        );
    } else {
        report.good("clock_skew", format!("the clock of {name} agrees"));
    }
}

/// Writes a token to the store, reads it, removes it, and reads it again. A store that `is_shared` is one on the network.
pub async fn try_store(store: &dyn TokenStore, is_shared: bool, report: &mut Report) {
    if !is_shared {
        report.good("token_store", "tokens are in the authority's memory, and end with it");
        return;
    }
    match round_trip(store).await {
        Ok(()) => {
            report.good(
                "token_store",
                "the token store keeps a token, and forgets one it is told to",
            );
        }
        Err(reason) => report.problem(
            "token_store",
            reason,
            "compare [tokens] with the store's address, account, its rights, and TLS",
        ),
    }
}

async fn round_trip(store: &dyn TokenStore) -> Result<(), String> {
    let unavailable = |StoreUnavailable(reason)| reason;
    store.ping().await.map_err(unavailable)?;
    let (token, now) = (TokenHash::of(&Uuid::new_v4().to_string()), SystemTime::now());
    let record = Record {
        instance: Uuid::new_v4(),
        console: ConsoleType::Novnc,
        service_host: DOCTOR.to_owned(),
        vcenter_uuid: None,
        machine: String::new().into(),
        host: String::new(),
        host_reference: String::new().into(),
        vnc_port: None,
        caller: DOCTOR.to_owned(),
        project: None,
        user: None,
        machine_name: None,
        containers: None,
        access: Access::View,
        clipboard: false,
        label: None,
        browser: None,
        issued_at: now,
        expires_at: now + TRIED_TOKEN,
    };
    let limits = TokenLimits { per_caller: NonZeroUsize::MAX, per_project: NonZeroUsize::MAX };
    let written = store.put(token, record.clone(), TRIED_TOKEN, limits).await;
    written.map_err(|error| format!("no token can be written: {error}"))?;
    let read = store.get(token).await.map_err(unavailable)?;
    let taken = store.take(token).await.map_err(unavailable)?;
    let again = store.get(token).await.map_err(unavailable)?;
    let is_ours = |found: &Option<Arc<Record>>| {
        found.as_ref().is_some_and(|found| found.instance == record.instance)
    };
    match (is_ours(&read), is_ours(&taken), again) {
        (true, true, None) => Ok(()),
        (true, _, Some(_)) => Err("a token that was removed can be read again".to_owned()),
        _ => Err("a token that was written cannot be read".to_owned()),
    }
}

/// Asks each other site about a token that no authority issued.
pub async fn try_sites(sites: &Sites, report: &mut Report) {
    for site in sites.iter() {
        let name = site.name();
        let request = SiteRequest { token: TokenHash::of(DOCTOR), session: Uuid::new_v4() };
        match site.status(request).await {
            Err(SiteError::Refused(Refusal { code: RefusalCode::TokenInvalid, .. })) => {
                report.good("site", format!("the site {name} answers"));
            }
            Ok(_) => report.problem(
                "site",
                format!("{name} knows a token that no authority issues"),
                "see which program answers at url of that [[site]]",
            ),
            Err(error @ SiteError::Refused(_)) => report.problem(
                "site",
                format!("{name}: {error}"),
                "run doctor at that site",
            ),
            Err(error) => report.problem(
                "site",
                format!("{name}: {error}"),
                "compare url of the [[site]], [peer] and the way there with [listen] peer, [peer] and [[site]] of that site",
            ),
        }
    }
}

/// Logs in to Keystone, validates a token that it does not know, compares its clock, and looks for the origin of the
/// `gateway` in its catalog.
pub async fn try_keystone(keystone: &Arc<Keystone>, gateway: Option<&str>, report: &mut Report) {
    let url = keystone.url();
    // A Keystone that does not answer has its finding below.
    if let Ok(Some(there)) = keystone.clock().await {
        compare_clocks(&format!("Keystone at {url}"), Some(there), report);
    }
    match keystone.identify(DOCTOR).await {
        Ok(_) => {
            report.good("keystone", format!("Keystone at {url} validates tokens"));
            try_catalog(keystone, gateway, report).await;
        }
        Err(error @ KeystoneError::LoginRefused) => report.problem(
            "keystone",
            error.to_string(),
            "compare username, password_file, project and domains of [auth.keystone] with the service user's",
        ),
        Err(error) => report.problem(
            "keystone",
            error.to_string(),
            "compare url and ca_file of [auth.keystone]; the service user needs the role service or admin",
        ),
    }
}

/// Looks for a compute endpoint that leads to the gateway. Callers of the console API alone need none.
async fn try_catalog(keystone: &Keystone, gateway: Option<&str>, report: &mut Report) {
    let Some(gateway) = gateway else { return };
    let endpoints = match keystone.compute_endpoints().await {
        Ok(endpoints) => endpoints,
        Err(error) => {
            report.untried(
                "keystone_catalog",
                format!("Keystone does not show its catalog: {error}"),
                "see `openstack endpoint list --service compute`",
            );
            return;
        }
    };
    let leads_here = |endpoint: &&Url| endpoint.origin().ascii_serialization() == gateway;
    match endpoints.iter().find(leads_here) {
        Some(endpoint) => {
            report.good("keystone_catalog", format!("the catalog has compute at {endpoint}"));
        }
        None => report.warn(
            "keystone_catalog",
            format!("no compute endpoint of the catalog leads to {gateway}"),
            "add one as docs/openstack.md shows; Horizon and OpenStack's clients find the API by it",
        ),
    }
}
