//! vCenter: which virtual machine, on which host, with which console port, right now.
//!
//! A [`Vcenter`] is one configured vCenter. Unless its configuration says otherwise, nothing that opens a console is
//! cached: an answer is as old as its round trip. Requests that arrive at the same moment share one call (`batch`). What
//! vCenter says has changed (`watch`) answers listings and ends consoles.
//!
//! | file | job |
//! |---|---|
//! | [`soap`], `xml` | the messages; `transport` carries them, `session` logs in |
//! | `lookup` | one machine by its instance UUID |
//! | `inventory` | listings of machines, hosts and clusters, and which containers a machine is in |
//! | `cluster` | a cluster of hosts |
//! | `inventory_name` | names as vCenter writes them and as people know them |
//! | [`watch`], `follow` | the inventory, kept current by what vCenter says has changed |
//! | `validation` | what a check reads: vCenter, or the watch |
//! | `paging` | `RetrievePropertiesEx`, page by page |
//! | [`machine`], [`host`], [`port_holder`] | what the properties mean |
//! | `batch` | reads the machines of several requests in one call |
//! | [`console_settings`] | which protocol a machine's console has |
//! | [`vnc_port`] | VNC ports: checked, and allocated where VNC is off |
//! | [`webmks_console`] | where the holder of a ticket connects |
//! | [`privileges`] | what the account lacks |
//! | `events` | events that administrators see beside a machine |
//! | `power`, `task` | switches machines on and off, and waits for vCenter's tasks |
//! | [`screen`] | what a machine shows, as a picture |
//! | [`vcenters`] | all configured vCenters, and which of them to ask |
//! | `hypervisors` | the names of a vCenter's clusters, by which callers may name the vCenter |
//! | `listings` | listings that callers share |
//! | [`scope`] | the part of the inventories that a caller may see |
//! | `time` | times as vSphere writes them |

mod batch;
mod cluster;
pub mod console_settings;
mod error;
mod events;
mod follow;
pub mod host;
mod hypervisors;
mod inventory;
mod inventory_name;
mod listings;
mod lookup;
pub mod machine;
mod paging;
pub mod port_holder;
mod power;
pub mod privileges;
mod property;
pub mod reference;
pub mod scope;
pub mod screen;
mod session;
pub mod soap;
mod task;
mod time;
mod transport;
mod validation;
pub mod vcenters;
pub mod vnc_port;
pub mod watch;
pub mod webmks_console;
mod xml;

pub use error::{RESPONSE_LIMIT, VcenterError};
pub use transport::Endpoint;
pub use xml::Malformed;

use crate::telemetry::Metrics;
use batch::Batch;
use console_settings::ConsoleSettings;
use machine::Detail;
use session::SoapClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use watch::Watch;

/// One configured vCenter.
pub struct Vcenter {
    service_host: String,
    client: SoapClient,
    timeout: Duration,
    consoles: ConsoleSettings,
    guest_shutdown_timeout: Duration,
    watch: Watch,
    /// Pending requests for machines' properties, by [`Detail`].
    batches: [Batch; Detail::COUNT],
}

impl Vcenter {
    /// A vCenter that is not yet logged in to. `timeout` bounds each request, retries included. A guest that is to shut down
    /// has `guest_shutdown_timeout` for it.
    pub fn new(
        service_host: String,
        endpoint: Endpoint,
        timeout: Duration,
        consoles: ConsoleSettings,
        guest_shutdown_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let watch = Watch::new(&service_host, consoles.validation, Arc::clone(&metrics));
        let client = SoapClient::new(&service_host, endpoint, metrics)?;
        let batches = std::array::from_fn(|_| Batch::new());
        Ok(Self { service_host, client, timeout, consoles, guest_shutdown_timeout, watch, batches })
    }

    /// The name of this vCenter: what nova calls the service host of a compute service.
    pub fn service_host(&self) -> &str {
        &self.service_host
    }

    /// How its consoles are opened.
    pub fn consoles(&self) -> &ConsoleSettings {
        &self.consoles
    }

    /// How long a guest has to shut down before its machine is switched off.
    pub fn guest_shutdown_timeout(&self) -> Duration {
        self.guest_shutdown_timeout
    }

    /// What vCenter says has changed. It is empty unless [`vcenters::VcenterEntry::start_watch`] was called.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Runs several requests within the time limit of one.
    pub async fn in_one_limit<T>(
        &self,
        requests: impl Future<Output = T>,
    ) -> Result<T, VcenterError> {
        timeout(self.timeout, requests).await.map_err(|_| VcenterError::TimedOut(self.timeout))
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, VcenterError>>,
    ) -> Result<T, VcenterError> {
        timeout(limit, request).await.unwrap_or(Err(VcenterError::TimedOut(limit)))
    }
}
