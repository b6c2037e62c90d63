//! More workers of one Envoy.

use crate::course::Course;
use crate::gateway::Gateway;
use anyhow::{Result, ensure};
use vncgate_load::cores;

/// Sessions that are opened before anything is measured, for what a worker's first makes for all that follow.
const FIRST: usize = 64;

/// Sessions.
const SESSIONS: u32 = 1_000;

/// Sessions that echo.
const ECHOING: usize = 100;

/// Sessions whose servers send as much as they can.
const SENDING: usize = 8;

/// Measures. Needs a `LocalSet`.
/// Fails when a part refuses what it should grant, or is not ready in time, and when a worker has no session.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    for &step in steps {
        let gateway = Gateway::start(step, &[cores::PROXY, cores::LOAD]).await?;
        let mut sessions = gateway.open(FIRST).await?;
        gateway.measured.registered(u32::try_from(FIRST)?).await?;
        let base = gateway.envoy_kib()?;
        gateway.open_until(&mut sessions, SESSIONS, (step, course)).await?;
        let kib = gateway.envoy_kib()?;
        let others = f64::from(SESSIONS) - FIRST as f64;
        course.cost(step, "memory, KiB a session", (kib - base) / others);
        course.total(step, "Envoy's memory, MiB", kib / 1024.0);

        let of_workers = gateway.sessions_of_workers().await;
        ensure!(of_workers.len() == step as usize, "{step} workers count {of_workers:?}");
        ensure!(!of_workers.contains(&0), "a worker has no session: {of_workers:?}");
        let most = of_workers.iter().max().copied().unwrap_or_default() as f64;
        let even = f64::from(SESSIONS) / f64::from(step);

        let mut echoing: Vec<_> = sessions.drain(..ECHOING).collect();
        let echo = gateway.echo(&mut echoing).await?;
        course.cost(step, "echo, Envoy's CPU µs", echo.cpu_us);
        let cpu = gateway.cpu_per_gb(SENDING).await?;
        course.cost(step, "server → client, Envoy's CPU s/GB", cpu);
        course.cost(step, "sessions of the fullest worker, in even shares", most / even);
    }
    Ok(())
}
