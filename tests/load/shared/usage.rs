//! What processes use, read from `/proc`: CPU seconds, memory and file descriptors.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;
use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

/// Clock ticks a second, the unit of `/proc/PID/stat`.
static TICKS: LazyLock<f64> = LazyLock::new(|| {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    // POSIX requires the value, and Linux has it always.
    ticks.expect("the clock ticks a second") as f64
});

/// CPU seconds, user and system, that a process has used, with its living and its reaped children.
/// The kernel counts those of reaped children in steps of 10 ms.
///
/// # Errors
///
/// When the process is gone.
pub fn cpu_seconds(id: u32) -> Result<f64> {
    // A child may end meanwhile; its parent has its time then.
    let living: f64 = children(id)?.into_iter().filter_map(|id| cpu_seconds(id).ok()).sum();
    Ok(clock(id)? + reaped_cpu_seconds(id)? + living)
}

/// CPU seconds of this process without its children, which are the parts that it started.
///
/// # Errors
///
/// When the kernel has no such clock.
pub fn own_cpu_seconds() -> Result<f64> {
    clock(std::process::id())
}

/// CPU seconds of a process alone, with its threads that have ended: to the nanosecond.
fn clock(id: u32) -> Result<f64> {
    let pid = Pid::from_raw(i32::try_from(id).context("a process id")?);
    let time = clock_getcpuclockid(pid).and_then(ClockId::now).with_context(|| gone(id))?;
    Ok(Duration::from(time).as_secs_f64())
}

/// CPU seconds of a process's reaped children.
fn reaped_cpu_seconds(id: u32) -> Result<f64> {
    // proc(5): cutime and cstime are the 16th and 17th field, and the 2nd, the name, may hold anything up to the last
    // parenthesis.
    const CUTIME_AFTER_NAME: usize = 13;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).with_context(|| gone(id))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in /proc/PID/stat")?;
    let fields = fields.split_whitespace().skip(CUTIME_AFTER_NAME).take(2);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let [cutime, cstime] = ticks[..] else {
        anyhow::bail!("too few fields in /proc/{id}/stat");
    };
    Ok((cutime + cstime) as f64 / *TICKS)
}

/// Bytes that a process has given to `write`, to files and to sockets. What goes out by `send` is not counted.
///
/// # Errors
///
/// When the process is gone.
pub fn written_bytes(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/io")).with_context(|| gone(id))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix("wchar:")).with_context(|| gone(id))?;
    line.trim().parse().context("a number of bytes")
}

/// Proportional set size in bytes, with all children: memory that several processes share counts once
/// in all. Resident size would count the Python interpreter once for each of websockify's processes.
///
/// # Errors
///
/// When the process is gone.
pub fn memory(id: u32) -> Result<u64> {
    let kib = kib(id, "smaps_rollup", "Pss:")?;
    let children: u64 = children(id)?.into_iter().filter_map(|id| memory(id).ok()).sum();
    Ok(kib * 1024 + children)
}

/// Seconds that all cores together were busy since the machine started, with everything on it.
///
/// # Errors
///
/// When `/proc/stat` is not Linux's.
pub fn machine_busy_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = stat.lines().next().context("a line in /proc/stat")?;
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // proc(5): user nice system idle iowait irq softirq steal.
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else {
        anyhow::bail!("too few fields in /proc/stat: {line}");
    };
    Ok((user + nice + system + irq + softirq + steal) as f64 / *TICKS)
}

/// The children of this process whose program has this name.
///
/// # Errors
///
/// When `/proc` is not Linux's.
pub fn children_named(name: &str) -> Result<Vec<u32>> {
    let is_named = |id: &u32| {
        // One that ends meanwhile has no name any more.
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    Ok(children(std::process::id())?.into_iter().filter(is_named).collect())
}

fn children(id: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{id}/task")).with_context(|| gone(id))? {
        // A thread may end meanwhile; its children are then another's.
        let Ok(list) = fs::read_to_string(thread?.path().join("children")) else { continue };
        for id in list.split_whitespace() {
            children.push(id.parse().context("a process id")?);
        }
    }
    Ok(children)
}

/// A number of KiB in a file of `/proc/PID`.
fn kib(id: u32, file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/{file}")).with_context(|| gone(id))?;
    // A process that has ended and was not waited for has no memory, and no line of it.
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| gone(id))?;
    line.trim().trim_end_matches(" kB").parse().context("a number of kB")
}

fn gone(id: u32) -> String {
    format!("process {id} is gone")
}

/// Memory and descriptors of a process at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// What a process holds now.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn of(id: u32) -> Result<Self> {
        let rss_kib = kib(id, "status", "VmRSS:")?;
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).with_context(|| gone(id))?.count();
        Ok(Self { rss_kib, descriptors })
    }
}

/// Descriptors that a process must be allowed for 9,900 sessions: two for each, in this program and in a proxy, and some.
/// Where a container has a limit, this is often it.
pub const DESCRIPTORS: u64 = 20_000;

/// Lets this process, and those that it starts from now on, have so many descriptors open at once.
///
/// # Errors
///
/// When the limit is lower and this user may not raise it.
pub fn allow_descriptors(needed: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).with_context(|| {
        format!(
            "this many sessions need {needed} file descriptors in one process, and the limit is {hard}: \
             raise it as root (`ulimit -Hn {needed}`), or ask for fewer sessions where the program has --sessions"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_work_of_a_child_counts_while_it_runs_and_after() {
        let own = std::process::id();
        let before = cpu_seconds(own).unwrap();
        let mut child =
            Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("start sh");
        let running = loop {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let running = cpu_seconds(child.id()).unwrap();
            if running > 0.05 {
                break running;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        // Of a reaped child there are whole ticks, of its user's and its system's time.
        let two_ticks = 2.0 / *TICKS;
        assert!(cpu_seconds(own).unwrap() - before > running - two_ticks);
        assert!(own_cpu_seconds().unwrap() < cpu_seconds(own).unwrap());
    }

    #[test]
    fn memory_is_more_than_nothing() {
        assert!(memory(std::process::id()).unwrap() > 100_000);
        assert!(machine_busy_seconds().unwrap() > 0.0);
    }

    #[test]
    fn a_descriptor_more_is_counted() {
        let own = std::process::id();
        let before = Usage::of(own).unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        let after = Usage::of(own).unwrap();
        // Other tests of this process open files too.
        assert!(after.descriptors >= before.descriptors + files.len() - 10);
        assert!(after.rss_kib > 500);
    }

    #[test]
    fn a_process_that_is_gone_is_said_to_be() {
        let mut child = Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        assert!(Usage::of(id).unwrap_err().to_string().contains("is gone"));
    }

    #[test]
    fn what_is_allowed_already_is_not_asked_for() {
        allow_descriptors(3).unwrap();
        let refused = allow_descriptors(u64::MAX / 2).unwrap_err().to_string();
        assert!(refused.contains("--sessions"), "{refused}");
    }
}
