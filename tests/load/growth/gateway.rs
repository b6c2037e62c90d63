//! An Envoy before an authority, and consoles behind it.

use crate::calls::{ROUNDS, cpu_of, median};
use crate::course::Course;
use crate::site::{Measured, Site, Validate};
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use vncgate_load::connection::{Client, Transport, Upgrade};
use vncgate_load::cores;
use vncgate_load::echo::{KEY_EVENT, Schedule, WARM_UP, send_often};
use vncgate_load::gateway::{roomy, unlimited};
use vncgate_load::latency::Latencies;
use vncgate_load::pattern::{self, SLICE_MAX, Stream};
use vncgate_load::session::Connection;
use vncgate_load::usage::memory;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::workspace::free_address;

/// The port of a host's first machine in this vCenter; the others follow.
const FIRST_VNC_PORT: u16 = 5901;

/// Machines whose consoles echo.
const MACHINES: usize = 20;

/// The filter pings a silent browser, and ends the session of one that does not answer; clients here read a session only
/// while it is measured.
const UNPINGED: &str = r#""ping_interval_ms": 0"#;

/// Sessions that are being opened at a time.
const OPENING: usize = 32;

/// Messages a second of all sessions together that echo: a hundred times a held key.
const MESSAGES_PER_SECOND: u32 = 6_000;

/// How long each round takes.
const WINDOW: Duration = Duration::from_secs(3);

/// All of it. Dropped in the order of the path.
pub(crate) struct Gateway {
    envoy: Envoy,
    envoy_id: u32,
    pub(crate) measured: Measured,
    _consoles: Vec<TcpServer>,
    client: Client,
    /// Of the machines whose consoles echo.
    tokens: Vec<String>,
    /// Of the machine whose console sends as much as it can.
    sending: String,
    _site: Site,
}

/// What a message that comes back costs: medians of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    /// Envoy's CPU time in microseconds.
    pub(crate) cpu_us: f64,
    /// How long half of them took at most, in milliseconds.
    pub(crate) p50_ms: f64,
    /// How long all but a hundredth took at most.
    pub(crate) p99_ms: f64,
    /// How many came back in a second. Below [`MESSAGES_PER_SECOND`], a core had no time left, and the times are of waiting.
    pub(crate) per_second: f64,
}

impl Gateway {
    /// Starts an Envoy of so many workers, which may use these cores, and all around it.
    /// Fails when a part is not ready in time.
    /// Panics with its log when a part does not start.
    pub(crate) async fn start(workers: u32, cores: &[usize]) -> Result<Self> {
        let mut site = Site::start().await;
        let host = IpAddr::from(site.next_host());
        let machines = site.add_host(MACHINES + 1).await;
        let mut consoles = Vec::new();
        for port in FIRST_VNC_PORT..FIRST_VNC_PORT + MACHINES as u16 {
            consoles.push(TcpServer::echo_at(SocketAddr::new(host, port)).await);
        }
        let last = SocketAddr::new(host, FIRST_VNC_PORT + MACHINES as u16);
        consoles.push(TcpServer::start_at(last, send_all).await);

        let measured = Measured::start(site.config(Validate::Watched), machines.len()).await?;
        let mut tokens = measured.tokens(&machines).await?;
        let sending = tokens.pop().context("a token for each machine")?;
        let (literal, limits) = unlimited();
        let settings = Settings {
            listen: free_address(),
            authority_public: measured.public(),
            authority_internal: measured.internal(),
            changes: &[(literal, format!("{limits}, {UNPINGED}")), roomy()],
        };
        let workers = usize::try_from(workers)?;
        let mut envoy = Envoy::start_with_workers(&site.run, &site.ca, &settings, workers).await;
        let envoy_id = envoy.process().id();
        cores::allow_process(envoy_id, cores)?;
        envoy.has_host_certificates().await;
        let client = Client::new(&site.ca);
        Ok(Self {
            envoy,
            envoy_id,
            measured,
            _consoles: consoles,
            client,
            tokens,
            sending,
            _site: site,
        })
    }

    /// Opens sessions whose consoles echo, and reads the first bytes of each. Needs a `LocalSet`.
    /// Fails when one is refused.
    pub(crate) async fn open(&self, count: usize) -> Result<Vec<Connection>> {
        let mut opening = JoinSet::new();
        let mut open = Vec::new();
        for token in self.tokens.iter().cycle().take(count) {
            if opening.len() == OPENING {
                open.extend(next(&mut opening).await?);
            }
            opening.spawn_local(connect(self.client.clone(), self.envoy.address(), token.clone()));
        }
        while let Some(session) = next(&mut opening).await? {
            open.push(session);
        }
        Ok(open)
    }

    /// Opens sessions until there are so many, and notes what a connect costs. Needs a `LocalSet`.
    /// Fails when one is refused, or the authority does not come to rest.
    pub(crate) async fn open_until(
        &self,
        sessions: &mut Vec<Connection>,
        count: u32,
        (step, course): (u32, &mut Course),
    ) -> Result<()> {
        let more = count as usize - sessions.len();
        let before = self.cpu()?;
        sessions.extend(self.open(more).await?);
        let [envoy, _] = self.cpu()?;
        let authority = self.measured.registered(count).await?;
        for (part, spent) in [("Envoy", envoy - before[0]), ("authority", authority - before[1])] {
            course.cost(step, &format!("connect, {part}'s CPU µs"), 1e6 * spent / more as f64);
        }
        Ok(())
    }

    /// CPU seconds of Envoy and of the authority.
    /// Fails when one is gone.
    pub(crate) fn cpu(&self) -> Result<[f64; 2]> {
        let cpu = cpu_of(&[self.envoy_id, self.measured.id])?;
        Ok([cpu[0], cpu[1]])
    }

    /// Envoy's memory in KiB.
    /// Fails when it is gone.
    pub(crate) fn envoy_kib(&self) -> Result<f64> {
        Ok(memory(self.envoy_id)? as f64 / 1024.0)
    }

    /// How many connections of browsers each worker has.
    pub(crate) async fn sessions_of_workers(&self) -> Vec<u64> {
        let address = self.envoy.address().to_string().replace('.', r"\.").replace(':', "_");
        let name = format!(r"^listener\.{address}\.worker_\d+\.downstream_cx_active$");
        self.envoy.stats(&name).await.into_iter().map(|(_, value)| value).collect()
    }

    /// Has these sessions send [`MESSAGES_PER_SECOND`] that come back. Needs a `LocalSet`.
    /// Fails when a session breaks, or other bytes come back.
    pub(crate) async fn echo(&self, sessions: &mut Vec<Connection>) -> Result<Echo> {
        let (mut cpu, mut p50, mut p99, mut rate) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let (seconds, latencies) = self.echo_round(sessions).await?;
            cpu.push(1e6 * seconds / latencies.count() as f64);
            rate.push(latencies.count() as f64 / WINDOW.as_secs_f64());
            let figures = latencies.figures()?;
            p50.push(figures["p50_ms"]);
            p99.push(figures["p99_ms"]);
        }
        let (p50_ms, p99_ms) = (median(p50), median(p99));
        Ok(Echo { cpu_us: median(cpu), p50_ms, p99_ms, per_second: median(rate) })
    }

    /// Envoy's CPU seconds, and the round trips.
    async fn echo_round(&self, sessions: &mut Vec<Connection>) -> Result<(f64, Latencies)> {
        let count = u32::try_from(sessions.len())?;
        let period = Duration::from_secs(1) * count / MESSAGES_PER_SECOND;
        let began = Instant::now();
        let from = began + WARM_UP.max(period);
        let until = from + WINDOW;
        let mut tasks = JoinSet::new();
        for (index, session) in (0..count).zip(sessions.drain(..)) {
            // Evenly over the period: people do not type in step.
            let schedule = Schedule { first: began + period * index / count, period, from, until };
            tasks.spawn_local(send_often(session, &KEY_EVENT, schedule));
        }
        tokio::time::sleep_until(from.into()).await;
        let [before, _] = self.cpu()?;
        tokio::time::sleep_until(until.into()).await;
        let [after, _] = self.cpu()?;
        let mut latencies = Latencies::default();
        while let Some(ended) = tasks.join_next().await {
            let (session, taken) = ended.context("a session's task")??;
            sessions.push(session);
            latencies.extend(taken);
        }
        Ok((after - before, latencies))
    }

    /// Envoy's CPU seconds for a GB from a server to its client, with so many sessions at once: the median of the rounds.
    /// Needs a `LocalSet`.
    /// Fails when a session breaks, or other bytes arrive.
    pub(crate) async fn cpu_per_gb(&self, sessions: usize) -> Result<f64> {
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            let mut receiving = JoinSet::new();
            for _ in 0..sessions {
                let (client, token) = (self.client.clone(), self.sending.clone());
                receiving.spawn_local(receive_all(client, self.envoy.address(), token));
            }
            let [before, _] = self.cpu()?;
            let mut bytes = 0;
            while let Some(ended) = receiving.join_next().await {
                bytes += ended.context("a session's task")??;
            }
            let [after, _] = self.cpu()?;
            costs.push((after - before) / (bytes as f64 / 1e9));
        }
        Ok(median(costs))
    }
}

/// What a client sends when it is ready for the pattern.
const READY: u8 = 1;

/// A console that waits for [`READY`] and sends the pattern until its client leaves.
async fn send_all(mut connection: TcpStream) {
    if connection.write_all(RFB_VERSION).await.is_err() {
        return;
    }
    if !connection.read_u8().await.is_ok_and(|byte| byte == READY) {
        return;
    }
    let mut sent = 0;
    while connection.write_all(pattern::at(sent, SLICE_MAX)).await.is_ok() {
        sent += SLICE_MAX as u64;
    }
}

/// Opens a session that receives for as long as [`WINDOW`], and returns how many bytes it got.
async fn receive_all(client: Client, address: SocketAddr, token: String) -> Result<u64> {
    let mut session = connect(client, address, token).await?;
    let ready = session.message(&[READY]);
    session.send(&ready).await?;
    let mut expected = Stream::new(0);
    let until = Instant::now() + WINDOW;
    while Instant::now() < until {
        let received = session.receive(|bytes| Ok(expected.verify(bytes)?)).await?;
        ensure!(received.is_some(), "the session ended early");
    }
    Ok(expected.position())
}

async fn connect(client: Client, address: SocketAddr, token: String) -> Result<Connection> {
    let upgrade = Upgrade {
        path: "/websockify".to_owned(),
        subprotocols: format!("binary, vncgate.token.{token}"),
        origin: None,
    };
    let opened = client.upgrade(Transport::Tls, address, &upgrade).await?.opened()?;
    let mut session = Connection::websocket(opened);
    session.expect(RFB_VERSION).await?;
    Ok(session)
}

async fn next(opening: &mut JoinSet<Result<Connection>>) -> Result<Option<Connection>> {
    opening.join_next().await.map(|opened| opened.context("a session's task")?).transpose()
}
