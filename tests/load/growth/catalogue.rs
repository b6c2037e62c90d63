//! What grows, and by which steps.

use crate::course::Course;
use crate::measure::{authorities, consoles, host, machines, sessions, tenants, tokens, workers};
use anyhow::Result;
use std::time::Instant;

/// Something that grows while all else stays as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// On the command line, and in the name of its picture.
    pub(crate) name: &'static str,
    /// In tables and pictures.
    pub(crate) title: &'static str,
    /// What stays as it is, and what else a reader has to know.
    pub(crate) note: &'static str,
    /// How many there are, from the first measurement to the last.
    pub(crate) steps: &'static [u32],
}

/// All of them, in the order in which they are measured.
pub(crate) const GROWTHS: [Growth; 8] = [
    Growth {
        name: "machines",
        title: "Machines of one vCenter",
        note: "A hundred on each host. vCenter is a simulator, whose own time is in the milliseconds of an issue.",
        steps: &[100, 1_000, 10_000, 50_000],
    },
    Growth {
        name: "host",
        title: "Machines of one host",
        note: "The vCenter has one host of each size. What is issued, and what is checked with `validate = \"live\"`, reads \
               the VNC ports of all of them from vCenter (CVE-2014-8750); with `\"watched\"` the watch knows them.",
        steps: &[10, 50, 200, 400],
    },
    Growth {
        name: "tokens",
        title: "Tokens in a store",
        note: "The authority is asked with `validate = \"watched\"`, so that no vCenter is in a check. Into memory, tokens come \
               by the console API. Into memcached and Redis most are written as the authority writes them: each for a machine \
               of its own, and five thousand for each caller.",
        steps: &[100, 1_000, 10_000, 100_000, 1_000_000],
    },
    Growth {
        name: "tenants",
        title: "Tenants",
        note: "Each is an `[[auth.project]]` with a folder and an API token. One of them has ten of the vCenter's 200 \
               machines, and asks for its consoles; an administrator lists all machines with their projects.",
        steps: &[1, 10, 100, 1_000],
    },
    Growth {
        name: "authorities",
        title: "Authorities on one Redis",
        note: "All authorities share one core, and Redis has the other with the load: more authorities answer no more checks \
               here, and what counts is what a check costs each part.",
        steps: &[1, 2, 3, 4],
    },
    Growth {
        name: "sessions",
        title: "Open sessions",
        note: "Fifty gateway workers, simulated by the filter's own code, report to one authority whose register is in its \
               memory.",
        steps: &[100, 1_000, 10_000, 100_000],
    },
    Growth {
        name: "consoles",
        title: "Open consoles through one Envoy",
        note: "VNC consoles over TLS and HTTP/1.1, through the shipped configuration with one worker; it and the authority have \
               one core, and clients and consoles the other. A hundred of the sessions echo a key press 60 times a second each \
               while all others are idle; then all of them share the same 6,000 messages a second. Where fewer come back, a core \
               had no time left, and the times are of waiting. Idle clients are not pinged (`ping_interval_ms` 0): a Ping and its \
               answer every 30 s are not in the figures. Memory is Envoy's, from a thousand on: what fewer take is the \
               allocator's stock. The last step is as many as a process with 20,000 descriptors can have.",
        steps: &[100, 1_000, 5_000, 9_900],
    },
    Growth {
        name: "workers",
        title: "Workers of one Envoy",
        note: "The same with 1,000 consoles, and with `--concurrency` of each number. Envoy may use both cores here, one of which \
               is the load's too: two workers get no more done on this machine, and what counts is what a piece of work costs. \
               In the last figure 1 is an even share.",
        steps: &[1, 2],
    },
];

impl Growth {
    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        GROWTHS.iter().find(|growth| growth.name == name)
    }

    /// Measures it. Needs a `LocalSet`.
    /// Fails when a part refuses what it should grant, or is not ready in time.
    pub(crate) async fn measure(&self) -> Result<Course> {
        let started = Instant::now();
        let mut course = Course::new(self.name);
        match self.name {
            "machines" => machines::measure(self.steps, &mut course).await,
            "host" => host::measure(self.steps, &mut course).await,
            "tokens" => tokens::measure(self.steps, &mut course).await,
            "tenants" => tenants::measure(self.steps, &mut course).await,
            "authorities" => authorities::measure(self.steps, &mut course).await,
            "sessions" => sessions::measure(self.steps, &mut course).await,
            "consoles" => consoles::measure(self.steps, &mut course).await,
            "workers" => workers::measure(self.steps, &mut course).await,
            name => unreachable!("{name} is in the list"),
        }?;
        eprintln!("{}: {:.0} s", self.name, started.elapsed().as_secs_f64());
        Ok(course)
    }
}
