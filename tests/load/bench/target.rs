//! What the project sets out to reach, and whether it does.

use crate::contender::{Contender, Peer};
use crate::results::Results;

/// One goal: a figure of vncgate's held against another's of the same run, or against a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The measure's name.
    pub(crate) measure: &'static str,
    /// The figure's name.
    pub(crate) figure: &'static str,
    /// Whose figure it is.
    pub(crate) of: Peer,
    /// What the figure is held against.
    pub(crate) against: Against,
    /// What it has to be.
    pub(crate) bound: Bound,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// Nothing: it is a plain number.
    Nothing,
    /// It is divided by this one's.
    Ratio(Peer),
    /// This one's is taken away from it.
    Difference(Peer),
    /// It is divided by the best of all other projects' proxies before the same console.
    EveryRival,
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

const fn target(
    measure: &'static str,
    figure: &'static str,
    against: Against,
    bound: Bound,
) -> Target {
    Target { measure, figure, of: Peer::Vncgate, against, bound }
}

const fn webmks(measure: &'static str, against: Against, bound: Bound) -> Target {
    Target { measure, figure: THROUGHPUT, of: Peer::VncgateWebmks, against, bound }
}

/// A link that restricts its user, held against `other`, which does not.
const fn view_only(
    measure: &'static str,
    figure: &'static str,
    [of, other]: [Peer; 2],
    bound: Bound,
) -> Target {
    Target { measure, figure, of, against: Ratio(other), bound }
}

const THROUGHPUT: &str = "bytes_per_second";
const CPU: &str = "cpu_seconds_per_gb";
const CPU_OF_MESSAGE: &str = "cpu_us_per_message";
const VIEW: [Peer; 2] = [Peer::ViewOnly, Peer::Vncgate];
const VIEW_WEBMKS: [Peer; 2] = [Peer::WebmksViewOnly, Peer::VncgateWebmks];

use Against::{Difference, EveryRival, Nothing, Ratio};
use Bound::{AtLeast, AtMost};

/// All goals, each for every transport that was measured.
pub(crate) const TARGETS: [Target; 37] = [
    target("server-to-client", THROUGHPUT, Ratio(Peer::Connect), AtLeast(0.97)),
    target("server-to-client", THROUGHPUT, EveryRival, AtLeast(1.0)),
    target("server-to-client", CPU, Ratio(Peer::Connect), AtMost(1.03)),
    target("server-to-client-16", THROUGHPUT, Ratio(Peer::Connect), AtLeast(0.97)),
    target("server-to-client-16", THROUGHPUT, EveryRival, AtLeast(1.0)),
    target("server-to-client-16", CPU, Ratio(Peer::Connect), AtMost(1.03)),
    target("client-to-server", THROUGHPUT, Ratio(Peer::Connect), AtLeast(0.85)),
    target("client-to-server", THROUGHPUT, EveryRival, AtLeast(1.0)),
    webmks("server-to-client", Ratio(Peer::PassThrough), AtLeast(0.98)),
    webmks("server-to-client", EveryRival, AtLeast(1.0)),
    webmks("server-to-client-16", Ratio(Peer::PassThrough), AtLeast(0.98)),
    webmks("server-to-client-16", EveryRival, AtLeast(1.0)),
    webmks("client-to-server", Ratio(Peer::PassThrough), AtLeast(0.98)),
    webmks("client-to-server", EveryRival, AtLeast(1.0)),
    target("echo", "p50_ms", Ratio(Peer::Connect), AtMost(1.1)),
    target("echo", "p99_ms", Ratio(Peer::Connect), AtMost(1.25)),
    view_only("view-client-to-server", THROUGHPUT, VIEW, AtLeast(0.95)),
    view_only("view-client-to-server", THROUGHPUT, VIEW_WEBMKS, AtLeast(0.95)),
    view_only("view-echo", CPU_OF_MESSAGE, VIEW, AtMost(1.05)),
    view_only("view-echo", CPU_OF_MESSAGE, VIEW_WEBMKS, AtMost(1.05)),
    target("connects", "connects_per_second", Ratio(Peer::ExtAuthz), AtLeast(0.75)),
    target("connects", "connects_per_second", Ratio(Peer::Websockify), AtLeast(15.0)),
    target("connect-latency", "p50_ms_without_vcenter", Ratio(Peer::TcpProxy), AtMost(2.0)),
    target("memory", "kib_per_session_at_1000", Difference(Peer::Connect), AtMost(6.0)),
    target("memory", "kib_per_session_at_5000", Difference(Peer::Connect), AtMost(6.0)),
    target("memory", "kib_per_session_at_9900", Difference(Peer::Connect), AtMost(6.0)),
    // Flat: what the first sessions find in the allocator, the later ones have to get.
    target("memory", "kib_per_session_growth", Nothing, AtMost(1.1)),
    // Where an empty GET takes 13 µs, a check takes no more than 45, and one whose token is elsewhere no more than 65.
    target("checks", "cpu_of_check_to_get", Nothing, AtMost(45.0 / 13.0)),
    target("checks-memcached", "cpu_of_check_to_get", Nothing, AtMost(65.0 / 13.0)),
    target("checks-redis", "cpu_of_check_to_get", Nothing, AtMost(65.0 / 13.0)),
    // The time of an issue is mostly the simulator's, which looks at each machine in turn to find one.
    target("issue", "soap_calls_per_issue_at_10000", Nothing, AtMost(3.0)),
    target("issue", "cpu_us_per_issue_growth", Nothing, AtMost(1.2)),
    target("lists", "cpu_ms_per_list_of_1000", Nothing, AtMost(50.0)),
    target("lists", "cpu_ms_per_list_by_name", Nothing, AtMost(10.0)),
    // What its machines cost in the list of a thousand, and as much again for choosing them.
    target("lists", "cpu_ms_per_page_of_10", Nothing, AtMost(1.0)),
    target("orders", "p99_ms", Nothing, AtMost(200.0)),
    target("orders-replica", "p99_ms", Nothing, AtMost(2000.0)),
];

/// Why targets of a measure may be missed, and which other figures of a run show it.
pub(crate) const REASONS: [(&str, &str); 11] = [
    (
        "server-to-client",
        "the filter's work for each chunk that Envoy reads, and a copy: Envoy makes TLS records of 16 KiB, and a frame's header \
         before a chunk makes it copy each into one piece. Without TLS there is no copy, and of WebMKS, where no header is \
         added, sessions are as fast as Envoy's.",
    ),
    (
        "server-to-client-16",
        "as for one session. The difference to Envoy CONNECT in `updates` is the filter's work for a chunk. Who is ahead of \
         Envoy CONNECT is ahead of Envoy.",
    ),
    (
        "client-to-server",
        "a client's bytes are masked (RFC 6455 5.3), so each goes into the filter's memory and back. Envoy's tunnel has none \
         to unmask, and other proxies unmask where the bytes are.",
    ),
    (
        "view-client-to-server",
        "each of the 6,553 messages of ten bytes in a frame is looked at. No client sends so many; `view-echo` has as many as \
         one does send.",
    ),
    ("view-echo", "the filter reads the client's frames, which it lets pass otherwise."),
    (
        "connects",
        "the authority asks vCenter and registers the session, and Envoy writes the access log twice for each: when the \
         console opens and when it ends. Envoy ext_authz does none of that. `connects-bare` has both without vCenter and \
         log: the filter's own work and the register's are left.",
    ),
    (
        "connect-latency",
        "a connect waits for the check's call and for one turn of Envoy's event loop after the console's first bytes.",
    ),
    (
        "memory",
        "header maps of the request and the response, bodies that the filter may hold, and filter state; docs/envoy.md has \
         them by size.",
    ),
    (
        "checks",
        "most of it is vCenter's call, over TLS and in XML: with `validate = \"watched\"` a check takes less than half, as \
         growth.md shows.",
    ),
    (
        "checks-memcached",
        "a check reads the token before it asks vCenter, which takes two exchanges, and again afterwards, so that what was \
         revoked meanwhile opens nothing.",
    ),
    (
        "checks-redis",
        "a check reads the token before it asks vCenter and afterwards, each time in one exchange.",
    ),
];

impl Target {
    /// What a contender reached; `None` when it is not its goal, or one of the two did not take part.
    pub(crate) fn reached(&self, results: &Results, contender: Contender) -> Option<f64> {
        if contender.peer != self.of {
            return None;
        }
        let Self { measure, figure, .. } = *self;
        let ratio = |peer| {
            let rival = contender.rival(peer)?;
            Some(results.ratio(measure, contender, rival, figure)?.median)
        };
        match self.against {
            Nothing => Some(results.spread(measure, contender, figure)?.median),
            Ratio(peer) => ratio(peer),
            Difference(peer) => {
                let rival = contender.rival(peer)?;
                Some(results.difference(measure, contender, rival, figure)?.median)
            }
            EveryRival => {
                let rivals = Peer::ALL.into_iter().filter(|peer| peer.program().is_some());
                let ratios = rivals.filter_map(ratio);
                match self.bound {
                    AtLeast(_) => ratios.reduce(f64::min),
                    AtMost(_) => ratios.reduce(f64::max),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{FIGURES, Measure};

    #[test]
    fn each_reason_is_of_a_measure_with_targets() {
        for (measure, _) in REASONS {
            assert!(TARGETS.iter().any(|target| target.measure == measure), "{measure}");
        }
    }

    #[test]
    fn each_target_is_of_a_figure_and_has_whom_it_is_held_against() {
        for target in TARGETS {
            let Target { measure, figure, of, against, .. } = target;
            assert_eq!(FIGURES.iter().filter(|known| known.name == figure).count(), 1, "{figure}");
            let contenders = Measure::named(measure).expect(measure).contenders();
            let held_against = |contender: &Contender, peer| {
                contender.rival(peer).is_some_and(|rival| contenders.contains(&rival))
            };
            let of_target = contenders.iter().filter(|contender| contender.peer == of);
            let compared = of_target.filter(|contender| match against {
                Nothing => true,
                Ratio(peer) | Difference(peer) => held_against(contender, peer),
                EveryRival => Peer::ALL
                    .into_iter()
                    .any(|peer| peer.program().is_some() && held_against(contender, peer)),
            });
            assert_ne!(compared.count(), 0, "{target:?}");
        }
    }
}
