//! The command `serve`: binds, serves, reloads and drains.
//!
//! `parts` builds everything that a configuration decides, and `reload` replaces it at SIGHUP.

mod error;
mod parts;
mod reload;

pub use error::ServeError;

use crate::audit::{AuditTrail, VcenterEvents};
use crate::config::Config;
use crate::http;
use crate::http::descriptors::DescriptorShares;
use crate::http::listener::{ListenAddress, Listener, ListenerConfig};
use crate::http::server::serve;
use crate::session_access::SessionAccess;
use crate::sites::tls::PeerAcceptor;
use crate::supervisor;
use crate::telemetry::{self, Metrics};
use crate::tls::server::ServerAcceptor;
use crate::traces::Traces;
use parts::Parts;
use reload::Reloads;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long requests in progress at SIGTERM may take to finish. The slowest useful request, an issue that has to log in
/// first, takes a few seconds; supervisors send SIGKILL after 10 s (Docker) or 30 s (Kubernetes).
pub const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// How often the names of the clusters are read. A new name is read when a caller first uses it; this drops the old
/// names.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often the certificates of the hosts are read. A new certificate is read when a console is opened on its host; this
/// drops the hosts that vCenter no longer has.
const HOST_CERTIFICATES_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often the certificates that other replicas have admitted are looked for in the token store. A session whose
/// certificate is new waits for it: see [`crate::host_certificates`].
const HOST_CERTIFICATES_LOOK: Duration = Duration::from_millis(100);

/// How often to look whether tokens are for one browser since the last reload.
const KEEP_LOOK: Duration = Duration::from_secs(20);

/// How often sessions are looked at for limits of time.
const SESSION_LIMITS_INTERVAL: Duration = Duration::from_secs(1);

/// Serves with the configuration of this file until SIGTERM or SIGINT, then drains. Reloads the file at SIGHUP.
pub async fn run(path: &Path) -> Result<(), ServeError> {
    // Caught first of all: a SIGHUP that comes too early would end the process.
    let hangup = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    let mut config = Config::load(path)?;
    let metrics = Arc::new(Metrics::new());
    let traces = config.traces.take().map(|traces| Traces::new(traces, Handle::current()));
    // Dropped at the end, which sends the last spans.
    let traces = traces.transpose()?;
    let lost_lines = metrics.lost_log_lines().clone();
    let log =
        telemetry::start_logging(&config.log, lost_lines, traces.as_ref().map(Traces::layer))?;
    let audit = Arc::new(AuditTrail::new(Arc::clone(&metrics)));
    audit.configure(config.audit.clone()).map_err(ServeError::Audit)?;
    let shares = DescriptorShares::of_this_process();
    let public = bind(config.public.clone(), "public", shares.handshakes, &metrics).await?;
    let internal = bind(config.internal.clone(), "internal", shares.handshakes, &metrics).await?;
    let metrics_listener =
        bind(config.metrics.clone(), "metrics", shares.handshakes, &metrics).await?;
    let peer = match config.sites.as_mut().and_then(|sites| sites.peer.take()) {
        Some((address, tls)) => {
            let acceptor = PeerAcceptor::new(tls, shares.peer, &metrics);
            Some((bind_peer(address, acceptor.clone()).await?, acceptor))
        }
        None => None,
    };
    let (peer, peer_acceptor) = peer.unzip();
    let draining = CancellationToken::new();
    let (sources, token) = (Arc::clone(&metrics), draining.clone());
    let parts = Parts::first(config, sources, Arc::clone(&audit), token).await?;
    let (sender, current) = watch::channel(Arc::new(parts));
    let app = || Arc::clone(&current.borrow().app);
    metrics.config_loaded(true);
    let mut reloads = Reloads {
        path: path.to_owned(),
        hangup,
        log,
        audit: Arc::clone(&audit),
        peer: peer_acceptor,
    };

    let stop_internal = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;

    let router = http::of_current(current.clone(), |parts| &parts.public);
    let public = serve(public, router, shares.public, draining.clone(), DRAIN_LIMIT);
    let router = http::of_current(current.clone(), |parts| &parts.internal);
    let internal = serve(internal, router, usize::MAX, stop_internal.clone(), DRAIN_LIMIT);
    let router = http::of_current(current.clone(), |parts| &parts.metrics);
    let stop = stop_internal.clone();
    let metrics_listener = serve(metrics_listener, router, shares.metrics, stop, DRAIN_LIMIT);
    let peer = async {
        if let Some(listener) = peer {
            let router = http::of_current(current.clone(), |parts| &parts.peer);
            serve(listener, router, shares.peer, stop_internal.clone(), DRAIN_LIMIT).await;
        }
    };
    let drain = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: draining"),
            _ = interrupt.recv() => info!("SIGINT: draining"),
        }
        supervisor::stopping();
        draining.cancel();
    };
    let keep_alive = stop_internal.run_until_cancelled(supervisor::keep_alive());
    supervisor::ready();
    // Sessions are checked and /readyz answers until the last request of the public listener is finished.
    let public = async {
        public.await;
        stop_internal.cancel();
    };
    // The signal is caught until the process ends, but what drains is not changed any more.
    let reloads = draining.run_until_cancelled(reloads.run(&sender, &metrics));
    // The first discovery also logs in, so that the first caller does not have to wait for a login.
    let discovery = draining.run_until_cancelled(async {
        let (mut due, mut reloaded) = (interval(DISCOVERY_INTERVAL), current.clone());
        loop {
            next_round(&mut due, &mut reloaded).await;
            app().consoles.vcenters().discover().await;
        }
    });
    let refresh = draining.run_until_cancelled(async {
        let (mut due, mut reloaded) = (interval(HOST_CERTIFICATES_INTERVAL), current.clone());
        loop {
            next_round(&mut due, &mut reloaded).await;
            let app = app();
            let Some(host_certificates) = app.consoles.host_certificates() else { continue };
            host_certificates.refresh(app.consoles.vcenters()).await;
        }
    });
    let look = draining.run_until_cancelled(async {
        let mut due = interval(HOST_CERTIFICATES_LOOK);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let app = app();
            let Some(host_certificates) = app.consoles.host_certificates() else { continue };
            host_certificates.look().await;
        }
    });
    let keep = draining.run_until_cancelled(async {
        loop {
            let interval = app().consoles.keep_interval();
            tokio::time::sleep(interval.unwrap_or(KEEP_LOOK)).await;
            let app = app();
            let live = app.sessions.live();
            let tokens = live.iter().filter_map(|session| session.description.token_id);
            if let Err(error) = app.consoles.keep_bound(tokens).await {
                warn!(%error, "the tokens of open consoles are not kept for their browsers now");
            }
        }
    });
    let changes = stop_internal.run_until_cancelled(async {
        let mut reloaded = current.clone();
        loop {
            let app = app();
            tokio::select! {
                () = app.consoles.end_with_their_machines(&app.sessions, &app.policy) => {}
                Ok(()) = reloaded.changed() => {}
            }
        }
    });
    // Until the internal listener has stopped: workers report of sessions while the public one drains.
    let register = Arc::clone(&app().sessions);
    let sessions = stop_internal.run_until_cancelled(register.run());
    let recorded = stop_internal.run_until_cancelled(audit.follow(register.subscribe()));
    let vcenter_events = VcenterEvents::new(Arc::clone(&metrics));
    let with_events = |service_host: &str| {
        let app = Some(app()).filter(|app| app.vcenter_events)?;
        app.consoles.vcenters().by_service_host(service_host).cloned()
    };
    let vcenter_events = vcenter_events.follow(register.subscribe(), with_events);
    let vcenter_events = stop_internal.run_until_cancelled(vcenter_events);
    let mut events = register.subscribe();
    let limits = stop_internal.run_until_cancelled(async {
        let mut due = interval(SESSION_LIMITS_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = due.tick() => app().limits.enforce().await,
                Some(events) = events.recv() => app().limits.follow(&events).await,
            }
        }
    });
    let access = stop_internal.run_until_cancelled(async {
        let mut access = SessionAccess::new(Arc::clone(&register));
        loop {
            sleep(SessionAccess::interval(&app().identity)).await;
            if let Some(keystone) = app().identity.keystone() {
                access.revalidate(keystone).await;
            }
        }
    });
    tokio::join!(
        public,
        internal,
        metrics_listener,
        peer,
        drain,
        keep_alive,
        reloads,
        discovery,
        refresh,
        look,
        keep,
        changes,
        sessions,
        recorded,
        limits,
        access,
        vcenter_events
    );
    app().consoles.vcenters().logout().await;
    audit.stop().await;
    info!("stopped");
    Ok(())
}

/// Waits until the next tick, or until the configuration was reloaded.
async fn next_round(due: &mut Interval, reloaded: &mut watch::Receiver<Arc<Parts>>) {
    tokio::select! {
        _ = due.tick() => {}
        Ok(()) = reloaded.changed() => due.reset(),
    }
}

async fn bind(
    config: ListenerConfig,
    name: &'static str,
    handshakes: usize,
    metrics: &Arc<Metrics>,
) -> Result<Listener, ServeError> {
    let ListenerConfig { address, tls } = config;
    let bound = match (&address, tls) {
        (ListenAddress::Tcp(address), Some(tls)) => {
            let acceptor = ServerAcceptor::new(name, tls, handshakes, metrics);
            Listener::bind_tls(*address, acceptor).await
        }
        _ => Listener::bind(&address).await,
    };
    listening(&address, name, bound)
}

async fn bind_peer(address: SocketAddr, acceptor: PeerAcceptor) -> Result<Listener, ServeError> {
    let listener = Listener::bind_peer(address, acceptor).await;
    listening(&ListenAddress::Tcp(address), "peer", listener)
}

fn listening(
    address: &ListenAddress,
    name: &str,
    bound: io::Result<Listener>,
) -> Result<Listener, ServeError> {
    let listen_error = |error| ServeError::Listen(address.clone(), error);
    let bound = bound.map_err(listen_error)?;
    info!(listener = name, address = %bound.address().map_err(listen_error)?, "listening");
    Ok(bound)
}
