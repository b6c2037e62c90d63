//! What the project sets out to reach, and whether it does.

use crate::contender::{Contender, Peer};
use crate::results::Results;

/// One goal: a figure held against a rival's of the same run, or against a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The measure's name.
    pub(crate) measure: &'static str,
    /// The figure's name.
    pub(crate) figure: &'static str,
    /// Whose the figure is divided by; `None` for a plain number.
    pub(crate) rival: Option<Peer>,
    /// What it has to be.
    pub(crate) bound: Bound,
}

/// A limit, included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Bound {
    /// Whether a value is within it.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

const fn against(measure: &'static str, figure: &'static str, rival: Peer, bound: Bound) -> Target {
    Target { measure, figure, rival: Some(rival), bound }
}

const fn alone(measure: &'static str, figure: &'static str, most: f64) -> Target {
    Target { measure, figure, rival: None, bound: Bound::AtMost(most) }
}

const THROUGHPUT: &str = "bytes_per_second";
const CPU: &str = "cpu_seconds_per_gb";

/// All goals, each for every transport.
pub(crate) const TARGETS: [Target; 26] = [
    against("server-to-client", THROUGHPUT, Peer::TcpProxy, Bound::AtLeast(0.90)),
    against("server-to-client", THROUGHPUT, Peer::Websockify, Bound::AtLeast(1.5)),
    against("server-to-client", CPU, Peer::TcpProxy, Bound::AtMost(1.15)),
    against("server-to-client-16", THROUGHPUT, Peer::TcpProxy, Bound::AtLeast(0.90)),
    against("server-to-client-16", THROUGHPUT, Peer::Websockify, Bound::AtLeast(1.5)),
    against("server-to-client-16", CPU, Peer::TcpProxy, Bound::AtMost(1.15)),
    against("updates", THROUGHPUT, Peer::TcpProxy, Bound::AtLeast(0.80)),
    against("updates", THROUGHPUT, Peer::Websockify, Bound::AtLeast(2.0)),
    against("updates", CPU, Peer::TcpProxy, Bound::AtMost(1.15)),
    against("client-to-server", THROUGHPUT, Peer::TcpProxy, Bound::AtLeast(0.50)),
    against("client-to-server", THROUGHPUT, Peer::Websockify, Bound::AtLeast(2.0)),
    against("echo", "p50_ms", Peer::TcpProxy, Bound::AtMost(1.2)),
    against("echo", "p99_ms", Peer::TcpProxy, Bound::AtMost(1.2)),
    against("echo", "p99_ms", Peer::Websockify, Bound::AtMost(1.0)),
    against("connects", "connects_per_second", Peer::Websockify, Bound::AtLeast(10.0)),
    Target {
        measure: "memory",
        figure: "kib_per_session_at_1000",
        rival: None,
        bound: Bound::AtMost(48.0),
    },
    Target {
        measure: "memory",
        figure: "kib_per_session_at_5000",
        rival: None,
        bound: Bound::AtMost(48.0),
    },
    against("memory", "kib_per_session", Peer::Websockify, Bound::AtMost(1.0 / 40.0)),
    Target {
        measure: "checks",
        figure: "checks_per_second",
        rival: None,
        bound: Bound::AtLeast(20_000.0),
    },
    // The time of an issue is mostly the simulator's, which looks at each machine in turn to find one.
    Target {
        measure: "issue",
        figure: "soap_calls_per_issue_at_10000",
        rival: None,
        bound: Bound::AtMost(3.0),
    },
    Target {
        measure: "issue",
        figure: "cpu_us_per_issue_growth",
        rival: None,
        bound: Bound::AtMost(1.2),
    },
    alone("lists", "cpu_ms_per_list_of_1000", 50.0),
    alone("lists", "cpu_ms_per_list_by_name", 10.0),
    // What its machines cost in the list of a thousand, and as much again for choosing them.
    alone("lists", "cpu_ms_per_page_of_10", 1.0),
    alone("orders", "p99_ms", 200.0),
    alone("orders-replica", "p99_ms", 2000.0),
];

impl Target {
    /// What a contender reached; `None` when it did not take part.
    pub(crate) fn reached(&self, results: &Results, contender: Contender) -> Option<f64> {
        let spread = match self.rival {
            Some(rival) => results.ratio(self.measure, contender, rival, self.figure),
            None => results.spread(self.measure, contender, self.figure),
        };
        spread.map(|spread| spread.median)
    }
}
