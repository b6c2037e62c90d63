//! All configured vCenters, and which of them to ask. A vCenter that is down does not hide the machines of the others.

use super::Vcenter;
use super::error::VcenterError;
use super::hypervisors::Hypervisors;
use super::listings::Listings;
use super::machine::VirtualMachine;
use super::scope::{Container, Scope};
use super::watch::Walk;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_blocking, yield_now};
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use uuid::Uuid;

/// One vCenter with the names and listings of its inventory.
pub struct VcenterEntry {
    vcenter: Arc<Vcenter>,
    hypervisors: Hypervisors,
    listings: Listings,
    /// The task that keeps the watch current, once it was started.
    watching: OnceLock<AbortHandle>,
}

/// A machine and the vCenter that manages it.
pub struct LocatedMachine<'a> {
    /// The vCenter.
    pub vcenter: &'a Arc<Vcenter>,
    /// nova's name of the cluster that it runs in, if the name is known.
    pub hypervisor: Option<Arc<str>>,
    /// The machine.
    pub machine: Arc<VirtualMachine>,
}

/// Why a machine was not located.
#[derive(Debug, Error)]
pub enum LocateError {
    /// No vCenter has that name.
    #[error("no vCenter has the service host or hypervisor {0:?}")]
    UnknownHypervisor(String),
    /// No vCenter that was asked has such a machine, or the caller may not see it.
    #[error("no vCenter has it")]
    UnknownMachine,
    /// Several vCenters have a machine with this instance UUID.
    #[error("several vCenters have it: {}", service_hosts.join(", "))]
    Ambiguous {
        /// Which, in alphabetical order.
        service_hosts: Vec<String>,
    },
    /// A vCenter that may have the machine did not answer, and the others do not have it.
    #[error("{service_host}: {error}")]
    Unavailable {
        /// Which vCenter.
        service_host: String,
        /// Why.
        error: VcenterError,
    },
}

/// How long the other vCenters have to say that they have a machine too, when one has it. A vCenter answers such a
/// question within milliseconds.
const SECOND_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Every vCenter of the configuration, at least one.
pub struct Vcenters {
    entries: Vec<Arc<VcenterEntry>>,
    /// Held while a listing is searched.
    selecting: Arc<Semaphore>,
}

impl Vcenters {
    /// Creates the list. An entry's position has no meaning.
    pub fn new(entries: Vec<Arc<VcenterEntry>>) -> Self {
        Self { entries, selecting: Arc::new(Semaphore::new(1)) }
    }

    /// The vCenter with this service host.
    pub fn by_service_host(&self, service_host: &str) -> Option<&Arc<Vcenter>> {
        self.entry_of(service_host).map(|entry| &entry.vcenter)
    }

    fn entries(&self) -> impl Iterator<Item = &VcenterEntry> {
        self.entries.iter().map(Arc::as_ref)
    }

    fn entry_of(&self, service_host: &str) -> Option<&VcenterEntry> {
        self.entries().find(|entry| entry.vcenter.service_host() == service_host)
    }

    /// Finds the machine with this instance UUID within `scope`, in the vCenters with this `hypervisor`, or in any. Asks
    /// those at once that have it by their watches, or all of them, if no watch knows it or one is not current. A machine
    /// that two of them have is an error that names both.
    ///
    /// When one has the machine, the others have [`SECOND_ANSWER_WAIT`] to say that they have one too. After that, or
    /// if one does not answer, the one machine that was found counts, and the log says so: a vCenter that is down keeps
    /// nobody from the machines of the others.
    pub async fn locate(
        &self,
        instance: Uuid,
        hypervisor: Option<&str>,
        scope: &Scope,
    ) -> Result<LocatedMachine<'_>, LocateError> {
        let candidates = self.candidates(hypervisor, scope).await?;
        let likely = that_may_have(&candidates, instance);
        let others_are_left = likely.len() < candidates.len();
        match Self::locate_in(likely, instance, hypervisor, scope).await {
            // It may have moved there a moment ago.
            Err(LocateError::UnknownMachine | LocateError::UnknownHypervisor(_))
                if others_are_left =>
            {
                Self::locate_in(candidates, instance, hypervisor, scope).await
            }
            located => located,
        }
    }

    async fn locate_in<'s>(
        entries: Vec<&'s VcenterEntry>,
        instance: Uuid,
        hypervisor: Option<&str>,
        scope: &Scope,
    ) -> Result<LocatedMachine<'s>, LocateError> {
        let mut results: FuturesUnordered<_> = entries
            .into_iter()
            .map(|entry| async move { (entry, entry.find(instance, hypervisor, scope).await) })
            .collect();
        let (mut found, mut failure) = (Vec::new(), None);
        let mut deadline = None;
        loop {
            let next = match deadline {
                None => Ok(results.next().await),
                Some(deadline) => timeout_at(deadline, results.next()).await,
            };
            match next {
                Ok(Some((entry, Ok(machine)))) => {
                    deadline.get_or_insert_with(|| Instant::now() + SECOND_ANSWER_WAIT);
                    found.push((entry, machine));
                }
                // A vCenter that does not answer says more than one that does not have it.
                Ok(Some((_, Err(LocateError::UnknownMachine)))) => {}
                Ok(Some((_, Err(error @ LocateError::UnknownHypervisor(_))))) => {
                    failure.get_or_insert(error);
                }
                Ok(Some((_, Err(error)))) => failure = Some(error),
                Ok(None) => break,
                Err(_) => {
                    warn!(%instance, "another vCenter has not said yet whether it has the machine too");
                    break;
                }
            }
        }
        let mut service_hosts: Vec<String> =
            found.iter().map(|(entry, _)| entry.vcenter.service_host().to_owned()).collect();
        match found.pop() {
            None => Err(failure.unwrap_or(LocateError::UnknownMachine)),
            Some(_) if !found.is_empty() => {
                service_hosts.sort_unstable();
                Err(LocateError::Ambiguous { service_hosts })
            }
            Some((entry, machine)) => {
                if let Some(error @ LocateError::Unavailable { .. }) = failure {
                    warn!(%instance, %error, "another vCenter cannot say whether it has the machine too");
                }
                Ok(entry.located(Arc::new(machine)))
            }
        }
    }

    /// The vCenters to ask for a machine. For a caller with a limited scope those that the scope reaches: whether a
    /// cluster of that name exists elsewhere must make no difference.
    async fn candidates(
        &self,
        hypervisor: Option<&str>,
        scope: &Scope,
    ) -> Result<Vec<&VcenterEntry>, LocateError> {
        let reached = |entry: &&VcenterEntry| scope.reaches(entry.vcenter.service_host());
        // A service host first: a cluster elsewhere may have a name that contains it.
        let named = hypervisor.and_then(|name| self.entry_of(name)).filter(reached);
        match (named, hypervisor, scope) {
            (Some(entry), _, _) => Ok(vec![entry]),
            (None, Some(name), Scope::Everything) => self.find_by_hypervisor(name).await,
            _ => Ok(self.entries().filter(reached).collect()),
        }
    }

    /// Finds a machine to show it: the same without asking vCenter, if the watches of all vCenters that may have it are
    /// current.
    pub async fn locate_to_show(
        &self,
        instance: Uuid,
        scope: &Scope,
    ) -> Result<LocatedMachine<'_>, LocateError> {
        let Some(mut found) = self.watched(instance, scope) else {
            return self.locate(instance, None, scope).await;
        };
        let mut service_hosts: Vec<String> =
            found.iter().map(|(entry, _)| entry.vcenter.service_host().to_owned()).collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(LocateError::UnknownMachine),
            (Some((entry, machine)), true) => {
                entry.name_clusters().await;
                Ok(entry.located(machine))
            }
            (Some(_), false) => {
                service_hosts.sort_unstable();
                Err(LocateError::Ambiguous { service_hosts })
            }
        }
    }

    /// The machines with this instance UUID within `scope`, as the watches have them, at most one of each vCenter. `None` if
    /// a watch is not current, or cannot tell.
    fn watched(
        &self,
        instance: Uuid,
        scope: &Scope,
    ) -> Option<Vec<(&VcenterEntry, Arc<VirtualMachine>)>> {
        let mut found = Vec::new();
        for entry in self.reached(scope) {
            let containers = scope.containers_of(entry.vcenter.service_host());
            let listed = entry.vcenter.watch().listed(instance, containers.as_deref())?;
            found.extend(listed.map(|machine| (entry, machine)));
        }
        Some(found)
    }

    /// The vCenters that the scope reaches.
    fn reached(&self, scope: &Scope) -> impl Iterator<Item = &VcenterEntry> {
        self.entries().filter(|entry| scope.reaches(entry.vcenter.service_host()))
    }

    /// The machine with this instance UUID within `scope`, as the first vCenter's watch has it that has one. `None` if a watch is
    /// not current, or none has it.
    pub async fn find_watched(&self, instance: Uuid, scope: &Scope) -> Option<LocatedMachine<'_>> {
        let (entry, machine) = self.watched(instance, scope)?.into_iter().next()?;
        entry.name_clusters().await;
        Some(entry.located(machine))
    }

    /// What `choose` makes of the machines within `scope` that come first in a walk: `count` of each vCenter, and as many more
    /// as the caller may sort before the last of them. Looks at no more machines than that takes. Unlike [`Self::list`] it
    /// needs every watch to be current: `None` otherwise.
    pub async fn first<'s, T>(
        &'s self,
        scope: &Scope,
        walk: &Walk<'_>,
        count: usize,
        choose: impl Fn(LocatedMachine<'s>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut chosen = Vec::new();
        for entry in self.reached(scope) {
            chosen.extend(entry.first(scope, walk, count, &choose).await?);
        }
        Some(chosen)
    }

    /// Lists the machines within `scope` that `wanted` accepts, and the service hosts of the vCenters that gave none, with
    /// the reason. Those of one vCenter come in the order of their names and instance UUIDs. Asks vCenter only while its
    /// watch is not current. `wanted` may take long: it runs for one listing at a time, on a thread that
    /// answers no requests.
    pub async fn list(
        &self,
        scope: &Scope,
        wanted: impl Fn(&VirtualMachine) -> bool + Send + Sync + 'static,
    ) -> (Vec<LocatedMachine<'_>>, Vec<(String, VcenterError)>) {
        let results = join_all(
            self.reached(scope).map(|entry| async move { (entry, entry.list(scope).await) }),
        );
        let (mut located, mut failed) = (Vec::new(), Vec::new());
        let wanted = Arc::new(wanted);
        for (entry, result) in results.await {
            match result {
                Ok(listings) => {
                    let machines = self.select(listings, Arc::clone(&wanted)).await;
                    located.extend(machines.into_iter().map(|machine| entry.located(machine)));
                }
                Err(error) => {
                    let service_host = entry.vcenter.service_host();
                    warn!(vcenter = service_host, %error, "cannot list machines");
                    failed.push((service_host.to_owned(), error));
                }
            }
        }
        (located, failed)
    }

    /// The first of these parts of the inventories that has a machine, by its key. Takes one round trip to the machine's
    /// vCenter, if one of the parts is there.
    pub async fn part_of<'s, K>(
        &self,
        located: &LocatedMachine<'_>,
        parts: impl Iterator<Item = (K, &'s Scope)>,
    ) -> Result<Option<K>, VcenterError> {
        let service_host = located.vcenter.service_host();
        let parts: Vec<_> = parts
            .filter_map(|(key, part)| Some((key, part.containers_of(service_host)?)))
            .filter(|(_, containers)| !containers.is_empty())
            .collect();
        if parts.is_empty() {
            return Ok(None);
        }
        let ancestors = located.vcenter.ancestors(&located.machine.reference).await?;
        let has = |containers: &[Container]| containers.iter().any(|own| ancestors.include(own));
        Ok(parts.into_iter().find(|(_, containers)| has(containers)).map(|(key, _)| key))
    }

    /// The same without asking vCenter. The outer `None`: its watch is not current, or cannot tell.
    pub fn watched_part_of<'s, K: Copy>(
        &self,
        located: &LocatedMachine<'_>,
        parts: impl Iterator<Item = (K, &'s Scope)>,
    ) -> Option<Option<K>> {
        let service_host = located.vcenter.service_host();
        let parts = parts.flat_map(|(key, part)| {
            let containers = match part {
                Scope::Everything => &[],
                Scope::Within(containers) => containers.as_slice(),
            };
            let own = containers.iter().filter(|own| own.service_host == service_host);
            own.map(move |container| (key, container))
        });
        located.vcenter.watch().part_of(&located.machine.reference, parts)
    }

    /// The machines of one vCenter's listings that are wanted, each once.
    async fn select(
        &self,
        listings: Vec<Arc<[Arc<VirtualMachine>]>>,
        wanted: Arc<impl Fn(&VirtualMachine) -> bool + Send + Sync + 'static>,
    ) -> Vec<Arc<VirtualMachine>> {
        let turn = Arc::clone(&self.selecting).acquire_owned().await.expect("it is never closed");
        let select = move || {
            let _turn = turn;
            let machines = listings.iter().flat_map(|listing| listing.iter());
            let machines = machines.filter(|machine| wanted(machine));
            if listings.len() == 1 {
                return machines.cloned().collect();
            }
            // A folder's machine may also be in one of the pools.
            let mut seen = HashSet::new();
            machines.filter(|machine| seen.insert(&machine.reference)).cloned().collect()
        };
        spawn_blocking(select).await.expect("it neither panics nor is aborted")
    }

    /// Reads the names of every vCenter's clusters. Logs failures and keeps the names read before.
    pub async fn discover(&self) {
        let discoveries = self.entries().map(VcenterEntry::discover);
        // Each discovery has logged its failure.
        let _ = join_all(discoveries).await;
    }

    /// Checks that every vCenter answers: the service host of each, and its error.
    pub async fn ping(&self) -> Vec<(&str, Result<(), VcenterError>)> {
        join_all(
            self.iter()
                .map(|vcenter| async move { (vcenter.service_host(), vcenter.ping().await) }),
        )
        .await
    }

    /// Watches every inventory from now on.
    pub fn start_watches(&self) {
        self.entries().for_each(VcenterEntry::start_watch);
    }

    /// Ends the watches and every session.
    pub async fn logout(&self) {
        self.entries().for_each(VcenterEntry::stop_watch);
        join_all(self.iter().map(|vcenter| vcenter.logout())).await;
    }

    /// Finds the vCenters with a cluster of that name. If none has it, the name may be new: then all of them read their
    /// clusters again.
    async fn find_by_hypervisor(&self, name: &str) -> Result<Vec<&VcenterEntry>, LocateError> {
        let matching = || -> Vec<&VcenterEntry> {
            self.entries().filter(|entry| entry.hypervisors.include(name)).collect()
        };
        let matches = matching();
        if !matches.is_empty() {
            return Ok(matches);
        }
        let discoveries = self.entries().map(|entry| async move {
            entry.discover().await.map_err(|error| entry.unavailable(error))
        });
        let mut failures = join_all(discoveries).await.into_iter().filter_map(Result::err);
        let matches = matching();
        if !matches.is_empty() {
            return Ok(matches);
        }
        let unknown = || LocateError::UnknownHypervisor(name.to_owned());
        Err(failures.next().unwrap_or_else(unknown))
    }

    /// Every vCenter.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Vcenter>> {
        self.entries().map(|entry| &entry.vcenter)
    }
}

/// Those that may have the machine with this instance UUID, as their watches have it. All of them if no watch knows the
/// machine, which may be new, or if one of the watches is not current.
fn that_may_have<'s>(entries: &[&'s VcenterEntry], instance: Uuid) -> Vec<&'s VcenterEntry> {
    let may_have = |entry: &&VcenterEntry| entry.vcenter.watch().may_have(instance);
    match entries.iter().map(may_have).collect::<Option<Vec<_>>>() {
        Some(has) if has.contains(&true) => {
            entries.iter().zip(has).filter_map(|(entry, has)| has.then_some(*entry)).collect()
        }
        _ => entries.to_vec(),
    }
}

impl VcenterEntry {
    /// A vCenter and the configured names of its clusters, in addition to the names that it reports.
    pub fn new(vcenter: Vcenter, hypervisors: Vec<String>) -> Self {
        let vcenter = Arc::new(vcenter);
        let listings = Listings::new(Arc::clone(&vcenter));
        let hypervisors = Hypervisors::new(hypervisors);
        Self { vcenter, hypervisors, listings, watching: OnceLock::new() }
    }

    /// Watches the inventory from now on, until the entry is dropped. Needs tokio.
    pub fn start_watch(&self) {
        let vcenter = &self.vcenter;
        self.watching.get_or_init(|| tokio::spawn(Arc::clone(vcenter).follow()).abort_handle());
    }

    fn stop_watch(&self) {
        if let Some(watching) = self.watching.get() {
            watching.abort();
        }
    }

    async fn discover(&self) -> Result<(), VcenterError> {
        self.hypervisors.discover(&self.vcenter).await
    }

    /// Finds the machine, if this vCenter has it within `scope`, and in a cluster of that name.
    async fn find(
        &self,
        instance: Uuid,
        hypervisor: Option<&str>,
        scope: &Scope,
    ) -> Result<VirtualMachine, LocateError> {
        let unavailable = |error| self.unavailable(error);
        let machine = self.vcenter.find_by_uuid(instance).await.map_err(unavailable)?;
        let machine = machine.ok_or(LocateError::UnknownMachine)?;
        let Scope::Within(containers) = scope else { return Ok(machine) };
        let own = containers.iter().filter(|own| own.service_host == self.vcenter.service_host());
        let visible = self.vcenter.is_within(&machine.reference, own).await;
        if !visible.map_err(unavailable)? {
            return Err(LocateError::UnknownMachine);
        }
        match hypervisor {
            Some(name) if !self.has_cluster_of(&machine, name).await.map_err(unavailable)? => {
                Err(LocateError::UnknownHypervisor(name.to_owned()))
            }
            _ => Ok(machine),
        }
    }

    /// Is this the name of the machine's own cluster, or of this vCenter? A caller with a limited scope must not learn,
    /// by the answer or its time, which other clusters there are.
    async fn has_cluster_of(
        &self,
        machine: &VirtualMachine,
        name: &str,
    ) -> Result<bool, VcenterError> {
        if self.vcenter.service_host() == name {
            return Ok(true);
        }
        let Some(cluster) = &machine.cluster else { return Ok(false) };
        if self.hypervisors.of_cluster(cluster).is_none() {
            self.discover().await?;
        }
        Ok(self.hypervisors.is_name_of(name, cluster))
    }

    /// Gets a listing, or one for each of the scope's containers.
    async fn list(&self, scope: &Scope) -> Result<Vec<Arc<[Arc<VirtualMachine>]>>, VcenterError> {
        let containers = scope.containers_of(self.vcenter.service_host());
        if let Some(machines) = self.vcenter.watch().list(containers.as_deref()) {
            self.name_clusters().await;
            return Ok(vec![machines]);
        }
        match scope {
            Scope::Everything => Ok(vec![self.listings.get(None).await?]),
            Scope::Within(containers) => {
                let service_host = self.vcenter.service_host();
                let own = containers.iter().filter(|own| own.service_host == service_host);
                let listings = own.map(|container| self.listings.get(Some(container)));
                join_all(listings).await.into_iter().collect()
            }
        }
    }

    /// [`Vcenters::first`] of this vCenter.
    async fn first<'s, T>(
        &'s self,
        scope: &Scope,
        walk: &Walk<'_>,
        count: usize,
        choose: impl Fn(LocatedMachine<'s>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let containers = scope.containers_of(self.vcenter.service_host());
        let watch = self.vcenter.watch();
        let mut next = watch.step(walk, None, containers.as_deref())?;
        self.name_clusters().await;
        let (mut chosen, mut last) = (Vec::new(), None);
        // A machine that is renamed from one step to the next may come twice.
        let mut seen = HashSet::new();
        loop {
            for machine in next.machines {
                let may_precede = |last: &Arc<_>| walk.are_tied(last, &machine);
                if chosen.len() >= count && !last.as_ref().is_some_and(may_precede) {
                    return Some(chosen);
                }
                if let Some(wanted) = choose(self.located(Arc::clone(&machine)))
                    && seen.insert(machine.reference.clone())
                {
                    chosen.push(wanted);
                    last = Some(machine);
                }
            }
            let Some(after) = next.last else { return Some(chosen) };
            // Of an inventory in which few machines are wanted, the thread answers other requests meanwhile.
            yield_now().await;
            next = watch.step(walk, Some(&after), containers.as_deref())?;
        }
    }

    /// Has the names of the clusters as the watch has them.
    async fn name_clusters(&self) {
        if let Err(error) = self.discover().await {
            let vcenter = self.vcenter.service_host();
            warn!(vcenter, %error, "the names of its clusters may be old");
        }
    }

    fn located(&self, machine: Arc<VirtualMachine>) -> LocatedMachine<'_> {
        let hypervisor = machine.cluster.as_ref().and_then(|id| self.hypervisors.of_cluster(id));
        LocatedMachine { vcenter: &self.vcenter, hypervisor, machine }
    }

    fn unavailable(&self, error: VcenterError) -> LocateError {
        LocateError::Unavailable { service_host: self.vcenter.service_host().to_owned(), error }
    }
}

impl Drop for VcenterEntry {
    fn drop(&mut self) {
        self.stop_watch();
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine_on;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use tokio::time::sleep;

    /// Of many listings whose filter takes long, all threads that answer requests were busy for long.
    #[tokio::test]
    async fn listings_are_searched_one_at_a_time_on_a_thread_that_answers_no_requests() {
        static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
        let vcenters = Vcenters::new(Vec::new());
        let listing = Arc::from([Arc::new(machine_on("6.7.0", Some(5901)))]);
        let answering = thread::current().id();
        let wanted = move |_: &VirtualMachine| {
            assert_ne!(thread::current().id(), answering);
            assert_eq!(UNDER_WAY.fetch_add(1, Ordering::SeqCst), 0);
            thread::sleep(Duration::from_millis(20));
            UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
            true
        };
        let wanted = Arc::new(wanted);
        let search = |_| vcenters.select(vec![Arc::clone(&listing); 2], Arc::clone(&wanted));
        let searches = join_all((0..10).map(search));
        tokio::pin!(searches);
        let mut ticks = 0;
        let found = loop {
            tokio::select! {
                found = &mut searches => break found,
                () = sleep(Duration::from_millis(5)) => ticks += 1,
            }
        };
        assert!(found.iter().all(|machines| machines.len() == 1), "each machine once");
        assert!(ticks > 5, "{ticks}");
    }
}
