//! The measures: their names, what they ask, who takes part, how often.

use crate::backend::{Setup, Tokens, Vcenter};
use crate::contender::{Console, Contender, Peer};
use crate::measure::echo::Echoed;
use crate::measure::throughput::Direction;
use crate::measure::{
    Measured, checks, connect, echo, issue, lists, memory, orders, throughput, updates,
};
use crate::testbed::Testbed;
use anyhow::Result;
use std::rc::Rc;
use std::time::Duration;
use vncgate_load::connection::Transport;

/// How long a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Less than 20 minutes. Without TLS only throughput is measured, where TLS hides what frames cost, and WebMKS has
    /// fewer idle sessions.
    Usual,
    /// Less than an hour, with everything.
    Full,
}

/// One measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// On the command line and in results.
    pub(crate) name: &'static str,
    /// In tables and plots.
    pub(crate) title: &'static str,
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
    Updates,
    Echo(Echoed),
    Connects { bare: bool },
    ConnectLatency,
    Memory,
    Checks(Tokens),
    Issue,
    Lists,
    Orders { replica: bool },
}

/// All measures, in the order in which they run.
pub(crate) const MEASURES: [Measure; 18] = [
    Measure {
        name: "server-to-client",
        title: "Server to client, one session, writes of 64 KiB",
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::ServerToClient, sessions: 1 },
    },
    Measure {
        name: "server-to-client-16",
        title: "Server to client, sixteen sessions, writes of 64 KiB",
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::ServerToClient, sessions: 16 },
    },
    Measure {
        name: "updates",
        title: "Updates of a recorded console, 50 sessions with 60 a second each",
        main_figure: "cpu_us_per_update",
        kind: Kind::Updates,
    },
    Measure {
        name: "client-to-server",
        title: "Client to server, one session, messages of 64 KiB",
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::ClientToServer, sessions: 1 },
    },
    Measure {
        name: "echo",
        title: "Round trip of a key press, 100 sessions with 60 a second each",
        main_figure: "p99_ms",
        kind: Kind::Echo(Echoed::Key),
    },
    Measure {
        name: "view-client-to-server",
        title: "Client to server, one session, messages of 6,553 update requests",
        main_figure: "bytes_per_second",
        kind: Kind::Throughput { direction: Direction::UpdateRequests, sessions: 1 },
    },
    Measure {
        name: "view-echo",
        title: "Round trip of an update request, 100 sessions with 60 a second each",
        main_figure: "cpu_us_per_message",
        kind: Kind::Echo(Echoed::UpdateRequest),
    },
    Measure {
        name: "connects",
        title: "Connects a second, up to the server's first bytes",
        main_figure: "connects_per_second",
        kind: Kind::Connects { bare: false },
    },
    Measure {
        name: "connects-bare",
        title: "The same without the access log, and with `validate = \"watched\"`",
        main_figure: "cpu_ms_per_connect",
        kind: Kind::Connects { bare: true },
    },
    Measure {
        name: "connect-latency",
        title: "Time of a connect, at 50 a second",
        main_figure: "p50_ms",
        kind: Kind::ConnectLatency,
    },
    Measure {
        name: "memory",
        title: "Memory of an idle session",
        main_figure: "kib_per_session",
        kind: Kind::Memory,
    },
    Measure {
        name: "checks",
        title: "Checks a second of the authority alone",
        main_figure: "cpu_us_per_check",
        kind: Kind::Checks(Tokens::Memory),
    },
    Measure {
        name: "checks-memcached",
        title: "Checks a second of the authority alone, tokens in memcached",
        main_figure: "cpu_us_per_check",
        kind: Kind::Checks(Tokens::Memcached),
    },
    Measure {
        name: "checks-redis",
        title: "Checks a second of the authority alone, tokens in Redis",
        main_figure: "cpu_us_per_check",
        kind: Kind::Checks(Tokens::Redis),
    },
    Measure {
        name: "issue",
        title: "Issuing for one of 100 and for one of 10,000 machines",
        main_figure: "p50_ms_at_10000",
        kind: Kind::Issue,
    },
    Measure {
        name: "lists",
        title: "Lists of 10,000 machines",
        main_figure: "cpu_ms_per_list_of_1000",
        kind: Kind::Lists,
    },
    Measure {
        name: "orders",
        title: "Time until a console that an operator ends is closed",
        main_figure: "p99_ms",
        kind: Kind::Orders { replica: false },
    },
    Measure {
        name: "orders-replica",
        title: "The same by a replica that has no gateway, sessions in Redis",
        main_figure: "p99_ms",
        kind: Kind::Orders { replica: true },
    },
];

impl Measure {
    /// The measure of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        MEASURES.iter().find(|measure| measure.name == name)
    }

    /// Who can take part, in the order of a round.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let mut contenders = Contender::all();
        contenders.retain(|contender| match self.kind {
            // The first transport is the plainest, which hides least of what it costs to read.
            _ if self.is_of_views() => {
                let Contender { peer, transport } = *contender;
                peer.is_vncgate() && transport == peer.transports()[0]
            }
            _ if contender.peer.is_view_only() => false,
            // The authority's own work: over which transport a browser comes makes no difference.
            Kind::Checks(_) | Kind::Issue | Kind::Lists | Kind::Orders { .. } => {
                contender.peer == Peer::Vncgate && contender.transport == Transport::Cleartext
            }
            Kind::Memory | Kind::Updates => {
                !matches!(contender.peer, Peer::Direct | Peer::DirectWebmks | Peer::ExtAuthz)
            }
            Kind::Connects { bare: false } => {
                !matches!(contender.peer, Peer::Direct | Peer::DirectWebmks)
            }
            // What is alike in both but for the filter and the authority.
            Kind::Connects { bare: true } => {
                matches!(contender.peer, Peer::Vncgate | Peer::ExtAuthz)
                    && contender.transport == Transport::Tls
            }
            Kind::ConnectLatency => true,
            Kind::Throughput { .. } | Kind::Echo(_) => contender.peer != Peer::ExtAuthz,
        });
        contenders
    }

    /// Whether links to view are held against links without restriction, and nothing else is.
    fn is_of_views(&self) -> bool {
        matches!(
            self.kind,
            Kind::Throughput { direction: Direction::UpdateRequests, .. }
                | Kind::Echo(Echoed::UpdateRequest)
        )
    }

    /// Whom a table holds the contenders of a console against.
    pub(crate) fn baselines(&self, console: Console) -> &'static [Peer] {
        match (console, self.is_of_views()) {
            (Console::Vnc, true) => &[Peer::Vncgate],
            (Console::Webmks, true) => &[Peer::VncgateWebmks],
            (Console::Vnc, false) if matches!(self.kind, Kind::Connects { bare: true }) => {
                &[Peer::ExtAuthz]
            }
            (Console::Vnc, false) => &[Peer::Connect, Peer::Websockify],
            (Console::Webmks, false) => &[Peer::PassThrough, Peer::Nginx],
        }
    }

    /// Who takes part in a run.
    pub(crate) fn contenders_of(&self, effort: Effort) -> Vec<Contender> {
        let mut contenders = self.contenders();
        let everyone = matches!(
            self.kind,
            Kind::Throughput { .. }
                | Kind::Echo(Echoed::UpdateRequest)
                | Kind::Checks(_)
                | Kind::Issue
                | Kind::Lists
                | Kind::Orders { .. }
        );
        if effort == Effort::Usual && !everyone {
            contenders.retain(|contender| contender.transport != Transport::Cleartext);
        }
        contenders
    }

    /// How often each contender is measured. Of three rounds the median bears one that someone else spoiled, and of five
    /// two.
    pub(crate) fn rounds(&self, effort: Effort) -> usize {
        match (self.kind, effort) {
            // Memory and lists have no noise to speak of, and a round of orders is a hundred of them.
            (Kind::Memory | Kind::Lists | Kind::Orders { .. }, _) => 1,
            (Kind::Issue, Effort::Usual) => 2,
            (_, Effort::Usual) => 3,
            (_, Effort::Full) => 5,
        }
    }

    /// For how long at a time.
    fn window(&self, effort: Effort) -> Duration {
        let [usual, full] = match self.kind {
            Kind::Throughput { .. } => [600, 2000],
            // As many as make a 99th percentile.
            Kind::ConnectLatency => [2000, 4000],
            Kind::Checks(_) => [2000, 3000],
            _ => [1000, 3000],
        };
        Duration::from_millis(match effort {
            Effort::Usual => usual,
            Effort::Full => full,
        })
    }

    /// Whether the load is busy by design, since it watches the clock in order to send on time.
    pub(crate) fn watches_clock(&self) -> bool {
        matches!(self.kind, Kind::Echo(_))
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
            Kind::Connects { bare: true } => {
                Parts::Fresh(Setup { vcenter: Vcenter::Watched, access_log: false, ..Setup::USUAL })
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
        effort: Effort,
    ) -> Result<Measured> {
        let window = self.window(effort);
        match self.kind {
            Kind::Throughput { direction, sessions } => {
                throughput::measure(testbed, contender, direction, sessions, window).await
            }
            Kind::Updates => updates::measure(testbed, contender, window).await,
            Kind::Echo(echoed) => echo::measure(testbed, contender, echoed, window).await,
            Kind::Connects { .. } => connect::rate(testbed, contender, window).await,
            Kind::ConnectLatency => connect::latency(testbed, contender, window).await,
            Kind::Memory => memory::measure(testbed, contender, effort).await,
            Kind::Checks(_) => checks::measure(testbed, window).await,
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
pub(crate) const FIGURES: [Figure; 38] = [
    Figure { name: "bytes_per_second", heading: "MB/s", scale: 1e-6, more_is_better: true },
    figure("cpu_seconds_per_gb", "CPU s/GB"),
    figure("p50_ms", "p50, ms"),
    figure("p99_ms", "p99, ms"),
    figure("check_mean_ms", "of it check, mean ms"),
    figure("vcenter_mean_ms", "of it vCenter, mean ms"),
    figure("p50_ms_without_vcenter", "p50 without vCenter, ms"),
    figure("cpu_us_per_message", "CPU µs/message"),
    Figure { name: "updates_per_second", heading: "1/s", scale: 1.0, more_is_better: true },
    figure("cpu_us_per_update", "CPU µs/update"),
    Figure { name: "connects_per_second", heading: "1/s", scale: 1.0, more_is_better: true },
    figure("cpu_ms_per_connect", "CPU ms/connect"),
    figure("cpu_ms_per_connect_of_envoy", "of it Envoy, CPU ms"),
    figure("kib_per_session", "KiB/session"),
    figure("kib_per_session_at_1000", "KiB/session, of 1,000"),
    figure("kib_per_session_at_5000", "KiB/session, of 5,000"),
    figure("kib_per_session_at_9900", "KiB/session, of 9,900"),
    figure("kib_per_session_growth", "of 9,900 / of 1,000"),
    Figure { name: "checks_per_second", heading: "1/s", scale: 1.0, more_is_better: true },
    figure("cpu_us_per_check", "CPU µs/check"),
    figure("cpu_us_per_get", "CPU µs/empty GET"),
    figure("cpu_of_check_to_get", "CPU, check / empty GET"),
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
    figure("mib_with_10000", "MiB of the authority"),
];

const fn figure(name: &'static str, heading: &'static str) -> Figure {
    Figure { name, heading, scale: 1.0, more_is_better: false }
}
