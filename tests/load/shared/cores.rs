//! Which core does what: one for what is measured, another for the load. The two never compete, and a
//! proxy's throughput is what one core of it can do.

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;

/// Where proxies run, and the authority.
pub const PROXY: usize = 0;
/// Where this program runs: clients, the ESXi stand-in; and vCenter, which is no part of a proxy.
pub const LOAD: usize = 1;

/// Moves this thread, and those that it starts from now on, to the load's core.
///
/// # Errors
///
/// On a machine of one core.
pub fn pin_load() -> Result<()> {
    let cores = std::thread::available_parallelism().context("count the cores")?;
    ensure!(cores.get() >= 2, "a benchmark needs two cores: one for the proxies, one for the load");
    allow(Pid::from_raw(0), &[LOAD])
}

/// Moves all threads of a process to a core; threads and processes that it starts follow.
///
/// # Errors
///
/// When the process is gone.
pub fn pin_process(id: u32, core: usize) -> Result<()> {
    allow_process(id, &[core])
}

/// Lets all threads of a process run on any of these cores; threads and processes that it starts follow.
///
/// # Errors
///
/// When the process is gone.
pub fn allow_process(id: u32, cores: &[usize]) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{id}/task")).context("list a process's threads")? {
        let id = task?.file_name().to_string_lossy().parse().context("a thread's id")?;
        allow(Pid::from_raw(id), cores)?;
    }
    Ok(())
}

fn allow(id: Pid, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|core| set.set(*core))?;
    sched_setaffinity(id, &set).with_context(|| format!("move {id} to the cores {cores:?}"))
}
