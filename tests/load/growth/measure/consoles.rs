//! More open consoles through one Envoy.

use crate::course::Course;
use crate::gateway::Gateway;
use anyhow::Result;
use std::time::Duration;
use tokio::time::sleep;
use vncgate_load::cores;

/// Sessions that echo while all others are idle; the first step has no others.
const ECHOING: usize = 100;

/// Sessions that are opened before memory is measured, for what the first makes for all that follow.
const FIRST: usize = 32;

/// From here on, memory is a session's: of fewer, it is the allocator's stock.
const MANY: u32 = 1_000;

/// How long nothing happens while that is measured.
const IDLE: Duration = Duration::from_secs(10);

/// Measures. Needs a `LocalSet`.
/// Fails when a part refuses what it should grant, loses a session, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let gateway = Gateway::start(1, &[cores::PROXY]).await?;
    let mut sessions = gateway.open(FIRST).await?;
    gateway.measured.registered(u32::try_from(FIRST)?).await?;
    let base = gateway.envoy_kib()?;
    for &step in steps {
        gateway.open_until(&mut sessions, step, (step, course)).await?;
        let kib = gateway.envoy_kib()? - base;
        if step >= MANY {
            let others = f64::from(step) - FIRST as f64;
            course.cost(step, "memory, KiB a session", kib / others);
        }

        let before = gateway.cpu()?;
        sleep(IDLE).await;
        for ((part, before), after) in ["Envoy", "authority"].iter().zip(before).zip(gateway.cpu()?)
        {
            let a_second = (after - before) / IDLE.as_secs_f64();
            let heading = format!("idle, {part}'s CPU µs a second and session");
            course.cost(step, &heading, 1e6 * a_second / f64::from(step));
            course.total(step, &format!("all idle, {part}'s CPU ms a second"), 1e3 * a_second);
        }

        let mut echoing: Vec<_> = sessions.drain(..ECHOING).collect();
        let few = gateway.echo(&mut echoing).await?;
        sessions.append(&mut echoing);
        let all = gateway.echo(&mut sessions).await?;
        for (which, echo) in [("echo of 100", few), ("echo of all", all)] {
            course.cost(step, &format!("{which}, Envoy's CPU µs"), echo.cpu_us);
            course.cost(step, &format!("{which}, p50 ms"), echo.p50_ms);
            course.cost(step, &format!("{which}, p99 ms"), echo.p99_ms);
            course.total(step, &format!("{which}, messages a second"), echo.per_second);
        }
        course.total(step, "Envoy's memory, MiB", gateway.envoy_kib()? / 1024.0);
        course.total(step, "authority's memory, MiB", gateway.measured.mib()?);
        gateway.measured.has_registered(step).await?;
    }
    Ok(())
}
