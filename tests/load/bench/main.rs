//! Measures vncgate beside what people use today, on one machine and in one run.
//!
//! ```text
//! client ─▶ vncgate     (Envoy and filter, authority, vCenter) ─▶ ESXi stand-in
//!        ─▶ tcp_proxy   (the same Envoy: the ceiling)          ─▶
//!        ─▶ CONNECT     (the same Envoy: its HTTP tunnel)      ─▶
//!        ─▶ websockify  (what nova-novncproxy is made of)      ─▶
//!        ─▶                                                    ─▶ (the machine's limit)
//! ```
//!
//! Clients and the stand-in are this program, on one core; what is measured is on another. So
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
//! | [`testbed`] | all parts, running: [`backend`], [`listeners`] (Envoy's), [`websockify`], [`stand_in`] |
//! | [`connection`] | a client's session: [`frame`] |
//! | [`caller`] | a caller of the authority alone |
//! | [`updates`] | the sizes of writes of a recorded console |
//! | [`vcenter_cache`] | a vCenter that answers at once |
//! | [`cores`] | which part runs on which core |
//! | [`results`], [`summary`], [`target`] | the file, its medians and ratios, what they should be |
//! | [`table`], [`plot`], [`compare`] | what a person reads |
//!
//! What it shares with the soak test is in [`vncgate_load`].

mod backend;
mod caller;
mod catalogue;
mod compare;
mod connection;
mod contender;
mod cores;
mod frame;
mod listeners;
mod measure;
mod plot;
mod results;
mod run;
mod stand_in;
mod summary;
mod table;
mod target;
mod testbed;
mod updates;
mod vcenter_cache;
mod websockify;

use anyhow::{Context, Result};
use catalogue::{MEASURES, Measure};
use clap::{Parser, Subcommand};
use contender::Peer;
use results::Results;
use std::fs;
use std::path::{Path, PathBuf};
use tokio::task::LocalSet;
use vncgate_test_support::workspace::checkout;

/// Measures vncgate beside Envoy's tcp_proxy, websockify and direct TCP.
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
        Command::Run { names, peers } if names.is_empty() && peers.is_empty() => {
            let all: Vec<_> = MEASURES.iter().collect();
            let results = LocalSet::new().run_until(run::run(&all, &Peer::ALL)).await?;
            fs::create_dir_all(&directory).context("make the results' directory")?;
            results.write(&file)?;
            render(&results, &directory)
        }
        Command::Run { names, peers } => {
            let names = if names.is_empty() { MEASURES.iter().collect() } else { names };
            let peers = if peers.is_empty() { Peer::ALL.to_vec() } else { peers };
            let results = LocalSet::new().run_until(run::run(&names, &peers)).await?;
            print!("{}", table::markdown(&results));
            let names: Vec<_> = names.iter().map(|measure| measure.name).collect();
            let file = checkout().join(format!(".run/bench-{}.json", names.join("-")));
            results.write(&file)?;
            println!("{}", file.display());
            Ok(())
        }
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
