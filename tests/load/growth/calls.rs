//! What calls cost the processes that take part in them.

use anyhow::{Context, Result};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::task::JoinSet;
use vncgate_load::caller::Caller;
use vncgate_load::usage::cpu_seconds;

/// How often each cost is measured.
pub(crate) const ROUNDS: usize = 3;

/// How calls are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls<'a> {
    /// Whom to call: one connection after the other.
    pub(crate) addresses: &'a [SocketAddr],
    /// What to ask: one after the other, each connection others.
    pub(crate) requests: &'a [String],
    /// How often in each round.
    pub(crate) count: usize,
    /// On how many connections.
    pub(crate) connections: usize,
}

/// What a call cost: medians of the rounds.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// CPU time in microseconds of each process.
    pub(crate) cpu_us: Vec<f64>,
    /// How long half of the calls took at most, in milliseconds.
    pub(crate) p50_ms: f64,
    /// How many were answered in a second, all connections together.
    pub(crate) per_second: f64,
}

impl Calls<'_> {
    /// Makes the calls and measures these processes. Needs a `LocalSet`.
    /// Fails when a call is not granted or a process is gone.
    pub(crate) async fn cost(&self, processes: &[u32]) -> Result<Cost> {
        // Caches and connections are as they are in the middle of a day.
        self.round(self.count.div_ceil(4)).await.context("the warm-up")?;
        let (mut cpu, mut p50, mut rate) = (vec![Vec::new(); processes.len()], vec![], vec![]);
        for _ in 0..ROUNDS {
            let before = cpu_of(processes)?;
            let started = Instant::now();
            let took = self.round(self.count).await?;
            let seconds = started.elapsed().as_secs_f64();
            let calls = took.len() as f64;
            for (index, (after, before)) in cpu_of(processes)?.iter().zip(before).enumerate() {
                cpu[index].push(1e6 * (after - before) / calls);
            }
            p50.push(median(took));
            rate.push(calls / seconds);
        }
        let cpu_us = cpu.into_iter().map(median).collect();
        Ok(Cost { cpu_us, p50_ms: median(p50), per_second: median(rate) })
    }

    /// How many calls [`Self::cost`] makes.
    pub(crate) fn all(&self) -> usize {
        self.count.div_ceil(4) + ROUNDS * self.count
    }

    /// Returns the milliseconds that each call took.
    async fn round(&self, count: usize) -> Result<Vec<f64>> {
        let took = Rc::<RefCell<Vec<f64>>>::default();
        let mut tasks = JoinSet::new();
        for connection in 0..self.connections {
            let address = self.addresses[connection % self.addresses.len()];
            let requests: Vec<String> = (connection..count)
                .step_by(self.connections)
                .map(|number| self.requests[number % self.requests.len()].clone())
                .collect();
            let took = Rc::clone(&took);
            tasks.spawn_local(async move {
                let mut caller = Caller::connect(address).await?;
                for request in requests {
                    let started = Instant::now();
                    caller.call(&request).await?;
                    took.borrow_mut().push(started.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a caller's task")??;
        }
        Ok(took.take())
    }
}

/// CPU seconds that each process has used.
/// Fails when one is gone.
pub(crate) fn cpu_of(processes: &[u32]) -> Result<Vec<f64>> {
    processes.iter().copied().map(cpu_seconds).collect()
}

/// The middle one of values, or the upper of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_bears_one_that_is_far_off() {
        assert_eq!(median(vec![900.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![3.0]), 3.0);
    }
}
