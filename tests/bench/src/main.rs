//! Measures vncgate beside what people use today.
use anyhow::Result;
use std::time::Duration;

mod connection;
mod contender;
mod cores;
mod frame;
mod http2;
mod listeners;
mod measure;
mod pattern;
mod stand_in;
mod testbed;
mod updates;
mod usage;
mod websockify;

use contender::Contender;
use measure::Direction;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tokio::task::LocalSet::new().run_until(run()).await
}

async fn run() -> Result<()> {
    cores::pin_load()?;
    let mut testbed = testbed::Testbed::start().await?;
    for (direction, n) in [
        (Direction::ServerToClient, 1),
        (Direction::ServerToClient, 16),
        (Direction::Updates, 1),
        (Direction::ClientToServer, 1),
    ] {
        for _ in 0..2 {
            for contender in Contender::ALL {
                let (figures, cost) = measure::throughput(
                    &mut testbed,
                    contender,
                    direction,
                    n,
                    Duration::from_millis(1000),
                )
                .await?;
                let bps = figures["bytes_per_second"];
                println!(
                    "{direction:?} {n} {contender}: {:.0} MB/s  envoy {:.3} s/GB ws {:.3} s/GB load {:.2} foreign {:.2}",
                    bps / 1e6,
                    cost.cpu_seconds["envoy"] / (bps * cost.seconds) * 1e9,
                    cost.cpu_seconds["websockify"] / (bps * cost.seconds) * 1e9,
                    cost.cpu_seconds["load"] / cost.seconds,
                    cost.foreign_cpu_seconds / cost.seconds
                );
            }
        }
    }
    Ok(())
}
