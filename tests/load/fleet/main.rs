//! A day of a fleet: what one authority and one Redis carry, with the gateways simulated and all else real.
//!
//! ```text
//! gateway workers (this program, by the filter's own code) ─▶ authority ─▶ Redis
//! portals (this program)                                   ─▶           ─▶ vcsim, many of them
//! ```
//!
//! Consoles themselves are no part of it, since no byte of a console passes through the authority. A worker issues
//! tokens for machines, has them checked and reports its sessions as a filter does, with the code of the filter
//! ([`vncgate_filter_core::reports`]). What is measured is what the authority, Redis and the vCenters use: CPU, memory and
//! calls. The load shares the machine's cores with them, so rates are what this machine does at most, and CPU per event is what to
//! plan with.
//!
//! # How to read it
//!
//! | module | job |
//! |---|---|
//! | [`day`] | the phases of a day, in order |
//! | [`fleet`] | all parts, running |
//! | [`connect`] | how sessions come to be: a token, a check |
//! | [`usage`] | what the parts used |
//! | [`table`] | what a person reads |
//!
//! A gateway worker is [`vncgate_load::worker`], and what it was ordered [`vncgate_load::orders`].

mod connect;
mod day;
mod fleet;
mod table;
mod usage;

use anyhow::{Context, Result};
use clap::Parser;
use std::fs;
use tokio::task::LocalSet;
use vncgate_test_support::workspace::checkout;

/// Simulates a fleet's day against one authority, and says what it took.
///
/// Writes tests/load/results/fleet.md, or with --try .run/fleet.md.
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// Open consoles.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    sessions: u32,
    /// Workers of the gateways: an Envoy has as many as cores.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    workers: u32,
    /// vCenters.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    vcenters: u8,
    /// Hosts of each vCenter, with 25 machines each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=200))]
    hosts: u8,
    /// What a check compares with, `[[vcenter]] validate`.
    #[arg(long, value_enum, default_value_t = Validate::Live)]
    validate: Validate,
    /// Leaves the committed results alone.
    #[arg(long = "try")]
    is_try: bool,
}

/// `[[vcenter]] validate`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Validate {
    /// vCenter is asked at each check.
    Live,
    /// The watch answers.
    Watched,
}

impl Validate {
    /// As it stands in the configuration.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Watched => "watched",
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // reqwest asks for one, though all that it calls here is plain HTTP.
    let provider = rustls::crypto::ring::default_provider().install_default();
    provider.ok().context("install a crypto provider")?;
    let day = LocalSet::new().run_until(day::run(arguments)).await?;
    let text = table::markdown(&day);
    let name = if arguments.is_try { ".run/fleet.md" } else { "tests/load/results/fleet.md" };
    let file = checkout().join(name);
    fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
    print!("{text}");
    println!("{}", file.display());
    Ok(())
}
