//! The measures: their names, what they ask, who takes part, how often.

use crate::backend::{Setup, Tokens, Vcenter};
use crate::contender::{Contender, Peer};
use crate::measure::throughput::Direction;
use crate::measure::{Measured, checks, connect, echo, issue, lists, memory, orders, throughput};
use crate::testbed::Testbed;
use anyhow::Result;
use std::rc::Rc;
use std::time::Duration;

/// Rounds of the measures that are quick and noisy. Their medians bear two rounds in five that someone
/// else spoiled.
const ROUNDS: usize = 5;

/// Long enough for a thousand steps of the kernel's CPU clock in all rounds together.
const WINDOW: Duration = Duration::from_secs(1);

/// One measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// On the command line and in results.
    pub(crate) name: &'static str,
    /// In tables and plots.
    pub(crate) title: &'static str,
    /// How often each contender is measured.
    pub(crate) rounds: usize,
    /// The figure that a plot shows.
    pub(crate) main_figure: &'static str,
    /// How it is measured.
    kind: Kind,
}

/// What parts a measurement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Those that all others use too.
    Shared,
    /// Some that have done nothing yet.
    Fresh(Setup),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Throughput { direction: Direction, sessions: usize },
    Echo,
    Connects,
    ConnectLatency,
    Memory,
    Checks(Tokens),
    Issue,
    Lists,
    Orders { replica: bool },
}

/// All measures, in the order in which they run.
pub(crate) const MEASURES: [Measure; 15] = [
    Measure {
        name: "server-to-client",
        title: "Server to client, one session, writes of 64 KiB",
        rounds: ROUNDS,
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::ServerToClient, sessions: 1 },
    },
    Measure {
        name: "server-to-client-16",
        title: "Server to client, sixteen sessions, writes of 64 KiB",
        rounds: ROUNDS,
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::ServerToClient, sessions: 16 },
    },
    Measure {
        name: "updates",
        title: "Server to client, one session, writes of a recorded console",
        rounds: ROUNDS,
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::Updates, sessions: 1 },
    },
    Measure {
        name: "client-to-server",
        title: "Client to server, one session, messages of 64 KiB",
        rounds: ROUNDS,
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::ClientToServer, sessions: 1 },
    },
    Measure {
        name: "echo",
        title: "Round trip of a key press, 100 sessions with 60 a second each",
        rounds: 3,
        main_figure: "p99_ms",
        kind: Kind::Echo,
    },
    Measure {
        name: "connects",
        title: "Connects a second, up to the server's first bytes",
        rounds: 3,
        main_figure: "connects_per_second",
        kind: Kind::Connects,
    },
    Measure {
        name: "connect-latency",
        title: "Time of a connect, at 50 a second",
        rounds: 3,
        main_figure: "p50_ms",
        kind: Kind::ConnectLatency,
    },
    Measure {
        name: "memory",
        title: "Memory of an idle session",
        rounds: 1,
        main_figure: "kib_per_session",
        kind: Kind::Memory,
    },
    Measure {
        name: "checks",
        title: "Checks a second of the authority alone",
        rounds: 3,
        main_figure: "checks_per_second",
        kind: Kind::Checks(Tokens::Memory),
    },
    Measure {
        name: "checks-memcached",
        title: "Checks a second of the authority alone, tokens in memcached",
        rounds: 3,
        main_figure: "checks_per_second",
        kind: Kind::Checks(Tokens::Memcached),
    },
    Measure {
        name: "checks-redis",
        title: "Checks a second of the authority alone, tokens in Redis",
        rounds: 3,
        main_figure: "checks_per_second",
        kind: Kind::Checks(Tokens::Redis),
    },
    Measure {
        name: "issue",
        title: "Issuing for one of 100 and for one of 10,000 machines",
        rounds: 3,
        main_figure: "p50_ms_at_10000",
        kind: Kind::Issue,
    },
    Measure {
        name: "lists",
        title: "Lists of 10,000 machines",
        rounds: 1,
        main_figure: "cpu_ms_per_list_of_1000",
        kind: Kind::Lists,
    },
    Measure {
        name: "orders",
        title: "Time until a console that an operator ends is closed",
        rounds: 1,
        main_figure: "p99_ms",
        kind: Kind::Orders { replica: false },
    },
    Measure {
        name: "orders-replica",
        title: "The same by a replica that has no gateway, sessions in Redis",
        rounds: 1,
        main_figure: "p99_ms",
        kind: Kind::Orders { replica: true },
    },
];

impl Measure {
    /// The measure of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        MEASURES.iter().find(|measure| measure.name == name)
    }

    /// Who takes part, in the order of a round.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let takes_part = |contender: &Contender| match self.kind {
            Kind::Checks(_) | Kind::Issue | Kind::Lists | Kind::Orders { .. } => {
                *contender == Contender::ALL[0]
            }
            Kind::Memory => contender.peer != Peer::Direct,
            Kind::Connects => !matches!(contender.peer, Peer::Direct | Peer::Connect),
            // Of Envoy's HTTP tunnel it is told what its bytes cost.
            Kind::Throughput { direction: Direction::Updates, .. } | Kind::ConnectLatency => {
                contender.peer != Peer::Connect
            }
            Kind::Throughput { .. } | Kind::Echo => true,
        };
        Contender::ALL.into_iter().filter(takes_part).collect()
    }

    /// Whether the load is busy by design, since it watches the clock in order to send on time.
    pub(crate) fn watches_clock(&self) -> bool {
        matches!(self.kind, Kind::Echo)
    }

    /// What it needs to run.
    pub(crate) fn parts(&self) -> Parts {
        match self.kind {
            Kind::Memory | Kind::Issue | Kind::Lists | Kind::Orders { replica: false } => {
                Parts::Fresh(Setup::USUAL)
            }
            Kind::Orders { replica: true } => {
                Parts::Fresh(Setup { tokens: Tokens::Redis, replica: true, ..Setup::USUAL })
            }
            Kind::Checks(tokens) => {
                Parts::Fresh(Setup { vcenter: Vcenter::Cached, tokens, ..Setup::USUAL })
            }
            _ => Parts::Shared,
        }
    }

    /// Measures one contender once.
    /// Fails when a session breaks, or its bytes are wrong.
    pub(crate) async fn run(
        &self,
        testbed: &Rc<Testbed>,
        contender: Contender,
    ) -> Result<Measured> {
        match self.kind {
            Kind::Throughput { direction, sessions } => {
                throughput::measure(testbed, contender, direction, sessions, WINDOW).await
            }
            Kind::Echo => echo::measure(testbed, contender, 2 * WINDOW).await,
            Kind::Connects => connect::rate(testbed, contender, 2 * WINDOW).await,
            Kind::ConnectLatency => connect::latency(testbed, contender, 3 * WINDOW).await,
            Kind::Memory => memory::measure(testbed, contender).await,
            Kind::Checks(_) => checks::measure(testbed, 3 * WINDOW).await,
            Kind::Issue => issue::measure(testbed).await,
            Kind::Lists => lists::measure(testbed).await,
            Kind::Orders { .. } => orders::measure(testbed, contender).await,
        }
    }
}

/// What figures mean, by the names that measurements give them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// The name in results.
    pub(crate) name: &'static str,
    /// Heading in tables, with the unit.
    pub(crate) heading: &'static str,
    /// From the figure to that unit.
    pub(crate) scale: f64,
    /// Whether more of it is better.
    pub(crate) more_is_better: bool,
}

/// All figures, in the order of a table's columns.
pub(crate) const FIGURES: [Figure; 31] = [
    Figure { name: "bytes_per_second", heading: "MB/s", scale: 1e-6, more_is_better: true },
    figure("cpu_seconds_per_gb", "CPU s/GB"),
    figure("p50_ms", "p50, ms"),
    figure("p99_ms", "p99, ms"),
    figure("check_mean_ms", "of it check, mean ms"),
    figure("soap_mean_ms", "of it vCenter, mean ms"),
    figure("cpu_us_per_message", "CPU µs/message"),
    Figure { name: "connects_per_second", heading: "1/s", scale: 1.0, more_is_better: true },
    figure("cpu_ms_per_connect", "CPU ms/connect"),
    figure("kib_per_session", "KiB/session"),
    figure("kib_per_session_at_1000", "KiB/session, of 1,000"),
    figure("kib_per_session_at_5000", "KiB/session, of 5,000"),
    Figure { name: "checks_per_second", heading: "1/s", scale: 1.0, more_is_better: true },
    figure("cpu_us_per_check", "CPU µs/check"),
    figure("p50_ms_at_100", "p50, ms, of 100"),
    figure("p50_ms_at_10000", "p50, ms, of 10,000"),
    figure("p50_ms_growth", "p50, of 10,000 / of 100"),
    figure("p99_ms_at_100", "p99, ms, of 100"),
    figure("p99_ms_at_10000", "p99, ms, of 10,000"),
    figure("vcenter_mean_ms_at_100", "of it vCenter, mean ms, of 100"),
    figure("vcenter_mean_ms_at_10000", "of it vCenter, mean ms, of 10,000"),
    figure("soap_calls_per_issue_at_100", "SOAP calls, of 100"),
    figure("soap_calls_per_issue_at_10000", "SOAP calls, of 10,000"),
    figure("cpu_us_per_issue_at_100", "CPU µs/issue, of 100"),
    figure("cpu_us_per_issue_at_10000", "CPU µs/issue, of 10,000"),
    figure("cpu_us_per_issue_growth", "CPU, of 10,000 / of 100"),
    figure("cpu_ms_per_list_of_1000", "CPU ms/list of 1,000"),
    figure("cpu_ms_per_page_of_10", "CPU ms/page of 10"),
    figure("cpu_ms_per_list_by_name", "CPU ms/list by name"),
    figure("cpu_us_per_update", "CPU µs/update"),
    figure("mib_with_10000", "MiB of the authority"),
];

const fn figure(name: &'static str, heading: &'static str) -> Figure {
    Figure { name, heading, scale: 1.0, more_is_better: false }
}
