//! Keeps thousands of sessions open while parts of the gateway are killed, and looks what becomes of them.
//!
//! ```text
//! browsers ─▶ Envoy and filter ─▶ consoles
//!                    │ authority (killed, stopped) ─▶ memcached (killed)
//!                    │                             ─▶ vcsim (killed)
//! ```
//!
//! Browsers and consoles are this program. Most sessions live for the whole run; some visitors open and end
//! others in every way there is, and some connect against an obstacle, whose answer is known. Operators list
//! the register of open consoles, end some, and move machines whose consoles are open. Every byte is
//! compared with what was sent. At the end the register has to say what the gateway says; then everything
//! closes, and what is left is counted.
//!
//! # How to read it
//!
//! | module | job |
//! |---|---|
//! | [`run`] | a run from start to end |
//! | [`site`] | everything, running: the gateway, vCenter and its machines |
//! | [`visits`] | who opens consoles, and for how long |
//! | [`session`] | one browser's session, and how it ends |
//! | [`console`] | the other end of it; [`exchange`]: what both ends know of each other |
//! | [`browser`] | upgrades; [`refusals`]: those that are refused |
//! | [`register`] | the register of open consoles: listed, ended by, and compared |
//! | [`outage`] | what fails, and how the gateway answers clients meanwhile |
//! | [`pace`] | how much is sent and when |
//! | [`tally`], [`monitor`], [`trend`] | what happened, and what it took |
//! | [`results`] | the file, and the verdict |
//!
//! What it shares with the benchmark is in [`vncgate_load`].

mod browser;
mod console;
mod exchange;
mod monitor;
mod outage;
mod pace;
mod refusals;
mod register;
mod results;
mod run;
mod session;
mod site;
mod tally;
mod trend;
mod visits;

use anyhow::Result;
use clap::Parser;
use run::Plan;
use std::process::ExitCode;
use std::time::Duration;
use vncgate_test_support::workspace::checkout;

/// Keeps thousands of sessions open while authority, memcached and vcsim are killed and started again.
///
/// Prints what has to hold and whether it does, and writes .run/soak.json. The exit status is 1 when
/// something does not hold.
#[derive(Parser)]
struct Arguments {
    /// How long the sessions live.
    #[arg(default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    minutes: u64,
    /// How many sessions live so long.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=4000))]
    sessions: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Arguments { minutes, sessions } = Arguments::parse();
    let plan =
        Plan { sessions: usize::try_from(sessions)?, duration: Duration::from_secs(60 * minutes) };
    let results = plan.run().await?;
    let file = checkout().join(".run/soak.json");
    results.write(&file)?;
    let verdicts = results.verdicts();
    for verdict in &verdicts {
        println!("{} {}", if verdict.holds { "ok  " } else { "FAIL" }, verdict.text);
    }
    println!("{}", file.display());
    let failed = verdicts.iter().filter(|verdict| !verdict.holds).count();
    println!("{} passed, {failed} failed", verdicts.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
