//! Measures vncgate beside what people use today, and beside what Envoy can do at all, on one machine and in one run.
//!
//! ```text
//! client ─▶ vncgate     (Envoy and filter, authority, vCenter)  ─▶ ESXi stand-in: VNC
//!        ─▶ CONNECT     (the same Envoy: its HTTP tunnel)       ─▶
//!        ─▶ tcp_proxy   (the same Envoy: no HTTP)               ─▶
//!        ─▶ ext_authz   (the same Envoy: its check)             ─▶
//!        ─▶ websockify, nova-novncproxy, wsproxy, websocat      ─▶
//!        ─▶                                                     ─▶ (the machine's limit)
//!
//! client ─▶ vncgate     (the same)                              ─▶ ESXi stand-in: WebMKS
//!        ─▶ pass-through (the same Envoy: its WebSocket proxy)  ─▶
//!        ─▶ nginx, HAProxy                                      ─▶
//!        ─▶                                                     ─▶ (the machine's limit)
//! ```
//!
//! The limit that counts is Envoy's own HTTP tunnel: the filter can be no faster. What each of the others cannot do, or is
//! spared here, [`contender::Peer::note`] says, and the results do.
//!
//! Clients and the stand-ins are this program, on one core; what is measured is on another. So
//! throughput is what one core of a proxy can do, whatever else is on the machine's other cores, and
//! the load is not slowed down by what it measures. Rounds of all contenders are interleaved, and what
//! counts is the ratio of two contenders in the same round. Every byte that arrives is compared with
//! what was sent, and none may be missing at the end.
//!
//! # How to read it
//!
//! | module | job |
//! |---|---|
//! | [`catalogue`] | the measures and their figures |
//! | [`run`] | runs them in rounds |
//! | [`mod@measure`] | how each is measured |
//! | [`contender`] | who is compared |
//! | [`testbed`] | all parts, running: [`backend`], [`listeners`] (Envoy's), [`authorizer`], [`rivals`], [`stand_in`] |
//! | [`updates`] | the sizes of writes of a recorded console |
//! | [`vcenter_cache`] | a vCenter that answers at once |
//! | [`results`], [`summary`], [`target`] | the file, its medians and ratios, what they should be |
//! | [`table`], [`plot`], [`compare`] | what a person reads |
//!
//! What it shares with the soak test is in [`vncgate_load`].

mod authorizer;
mod backend;
mod catalogue;
mod compare;
mod contender;
mod listeners;
mod measure;
mod plot;
mod results;
mod rivals;
mod run;
mod stand_in;
mod summary;
mod table;
mod target;
mod testbed;
mod updates;
mod vcenter_cache;

use anyhow::{Context, Result};
use catalogue::{Effort, MEASURES, Measure};
use clap::{Parser, Subcommand};
use contender::Peer;
use results::Results;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::task::LocalSet;
use vncgate_test_support::workspace::checkout;

/// Measures vncgate beside Envoy's own proxies, other projects' and none.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs all measures and writes tests/load/results; with names or peers, runs those and writes
    /// .run/bench-NAME.json.
    Run {
        /// Measures to run.
        #[arg(value_parser = measure)]
        names: Vec<&'static Measure>,
        /// Measures this peer only (may be repeated), for profiling and tuning.
        #[arg(long = "peer", value_enum)]
        peers: Vec<Peer>,
        /// More and longer rounds, everything without TLS too: it takes up to an hour.
        #[arg(long)]
        full: bool,
    },
    /// The server that Envoy's ext_authz asks; a run starts it.
    #[command(hide = true)]
    Authorizer {
        /// Where to listen.
        address: SocketAddr,
    },
    /// Writes table and plots from tests/load/results/results.json.
    Render,
    /// Says what changed from one results file to another.
    Compare {
        /// The results before.
        old: PathBuf,
        /// The results after.
        new: PathBuf,
    },
}

fn measure(name: &str) -> Result<&'static Measure, String> {
    Measure::named(name).ok_or_else(|| {
        let names: Vec<_> = MEASURES.iter().map(|measure| measure.name).collect();
        format!("the measures are {}", names.join(", "))
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let directory = checkout().join("tests/load/results");
    let file = directory.join("results.json");
    match Arguments::parse().command {
        Command::Run { names, peers, full } => {
            let effort = if full { Effort::Full } else { Effort::Usual };
            let everything = names.is_empty() && peers.is_empty();
            let names = if names.is_empty() { MEASURES.iter().collect() } else { names };
            let peers = if peers.is_empty() { Peer::ALL.to_vec() } else { peers };
            let results = LocalSet::new().run_until(run::run(&names, &peers, effort)).await?;
            if everything {
                fs::create_dir_all(&directory).context("make the results' directory")?;
                results.write(&file)?;
                return render(&results, &directory);
            }
            print!("{}", table::markdown(&results));
            let names: Vec<_> = names.iter().map(|measure| measure.name).collect();
            let file = checkout().join(format!(".run/bench-{}.json", names.join("-")));
            results.write(&file)?;
            println!("{}", file.display());
            Ok(())
        }
        Command::Authorizer { address } => authorizer::serve(address).await,
        Command::Render => render(&Results::read(&file)?, &directory),
        Command::Compare { old, new } => {
            print!("{}", compare::markdown(&Results::read(&old)?, &Results::read(&new)?));
            Ok(())
        }
    }
}

fn render(results: &Results, directory: &Path) -> Result<()> {
    for measure in &MEASURES {
        plot::write(results, measure, directory)?;
    }
    let table = table::markdown(results);
    fs::write(directory.join("README.md"), &table).context("write the table")?;
    print!("{table}");
    Ok(())
}
