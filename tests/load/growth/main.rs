//! What a larger installation costs: one thing grows at a time, and all else stays as it is.
//!
//! ```text
//! clients (this program) ─▶ Envoy with the filter ─▶ consoles (this program): open sessions, Envoy's workers
//!
//! load (this program) ─▶ authority, one or several ─▶ vCenter (vcsim): its machines, those of one host, its tenants
//!                                                  ─▶ memcached or Redis: tokens
//! gateway workers (this program, by the filter's own code) ─▶ the register: sessions
//! ```
//!
//! A figure is the cost of one piece of work: a check, a machine of a list, a session in a report. What is built well
//! costs the same in an installation of any size, so a figure that grows shows work that grows faster than it should. Costs
//! are CPU time of the processes, which others on the machine hardly change; the authority has one core, and everything else
//! another. Each figure is the median of [`calls::ROUNDS`].
//!
//! How Envoy compares with other proxies is `vncgate-bench`'s, and what all of it together carries `vncgate-fleet`'s.
//!
//! # How to read it
//!
//! | module | job |
//! |---|---|
//! | [`catalogue`] | what grows, and by which steps |
//! | [`mod@measure`] | how each is measured |
//! | [`course`] | the figures of something that grows |
//! | [`site`] | vCenter, and authorities that ask it |
//! | [`gateway`] | an Envoy before an authority, and consoles behind it |
//! | [`calls`] | what calls cost the processes that take part in them |
//! | [`table`], [`plot`] | what a person reads |

mod calls;
mod catalogue;
mod course;
mod gateway;
mod measure;
mod plot;
mod site;
mod table;

use anyhow::{Context, Result};
use catalogue::{GROWTHS, Growth};
use clap::Parser;
use std::fs;
use std::time::Instant;
use tokio::task::LocalSet;
use vncgate_load::cores;
use vncgate_load::results::Environment;
use vncgate_load::usage::{DESCRIPTORS, allow_descriptors};
use vncgate_test_support::workspace::checkout;

/// Measures what a larger installation costs: one thing grows at a time.
///
/// Writes tests/load/results/growth.md and its pictures, or with --try or names .run/growth.md and its pictures.
#[derive(Debug, Parser)]
struct Arguments {
    /// What grows; everything without names.
    #[arg(value_parser = growth)]
    names: Vec<&'static Growth>,
    /// Leaves the committed results alone.
    #[arg(long = "try")]
    is_try: bool,
}

fn growth(name: &str) -> Result<&'static Growth, String> {
    Growth::named(name).ok_or_else(|| {
        let names: Vec<_> = GROWTHS.iter().map(|growth| growth.name).collect();
        format!("what grows is {}", names.join(", "))
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { names, is_try } = Arguments::parse();
    // reqwest asks for one, though all that it calls here is plain HTTP.
    let provider = rustls::crypto::ring::default_provider().install_default();
    provider.ok().context("install a crypto provider")?;
    allow_descriptors(DESCRIPTORS)?;
    cores::pin_load()?;
    let directory = if is_try || !names.is_empty() { ".run" } else { "tests/load/results" };
    let directory = checkout().join(directory);
    let grown = if names.is_empty() { GROWTHS.iter().collect() } else { names };
    let environment = Environment::now()?;
    let started = Instant::now();
    let mut courses = Vec::new();
    for growth in grown {
        let course = LocalSet::new().run_until(growth.measure()).await;
        courses.push((growth, course.with_context(|| growth.name)?));
    }
    for (growth, course) in &courses {
        plot::write(growth, course, &directory)?;
    }
    let text = table::markdown(&environment, started.elapsed(), &courses);
    let file = directory.join("growth.md");
    fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
    print!("{text}");
    println!("{}", file.display());
    Ok(())
}
