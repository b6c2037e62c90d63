//! More tokens in each store.

use crate::calls::Calls;
use crate::course::Course;
use crate::site::{Measured, Site, Validate, check, issue, sha256, token};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use vncgate_load::caller::Caller;
use vncgate_load::usage::{Usage, children_named};
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::Vm;

/// Hosts, and machines of each: a machine has a hundred tokens at most.
const HOSTS: usize = 32;
const ON_A_HOST: usize = 16;

/// Tokens in the authority's own memory at most. Each is issued, which takes a vCenter's time too.
const MOST_IN_MEMORY: u32 = 10_000;

/// Tokens that are checked.
const CHECKED: usize = 32;

/// Tokens of one caller, the default of `[limits] tokens_per_caller`.
const OF_A_CALLER: u32 = 5_000;

/// How long tokens that are written live.
const LIFE: Duration = Duration::from_secs(4 * 60 * 60);

/// How much is written at once, in bytes.
const PIECE: usize = 256 * 1024;

/// A store on the network that takes what the authority would write.
struct Remote {
    store: Store,
    /// Its name in tables, and its program.
    name: &'static str,
    program: &'static str,
}

/// Measures.
/// Fails when a part refuses what it should grant, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let mut site = Site::start().await;
    let mut machines = Vec::new();
    for _ in 0..HOSTS {
        machines.extend(site.add_host(ON_A_HOST).await);
    }
    in_memory(&site, &machines, steps, course).await?;
    // A million tokens take a gigabyte and a half there, and it takes no more than it needs.
    let store = Store::memcached_with(&site.run, &["-m", "4096"]).await;
    let memcached = Remote { store, name: "memcached", program: "memcached" };
    in_store(&site, &machines, memcached, steps, course).await?;
    let store = Store::redis(&site.run).await;
    let redis = Remote { store, name: "Redis", program: "redis-server" };
    in_store(&site, &machines, redis, steps, course).await
}

async fn in_memory(site: &Site, machines: &[Vm], steps: &[u32], course: &mut Course) -> Result<()> {
    let (run, config) = site.config(Validate::Watched);
    let config = config.with("#capacity = 10000", "capacity = 1000000");
    let measured = Measured::start((run, config), machines.len()).await?;
    let tokens = measured.tokens(&machines[..CHECKED]).await?;
    let checks: Vec<_> = tokens.iter().map(|token| check(token)).collect();
    let mut there = CHECKED;
    for &step in steps.iter().filter(|step| **step <= MOST_IN_MEMORY) {
        // Those that are checked stay: their machines get no more.
        let others = machines[CHECKED..].iter().cycle();
        let more: Vec<Vm> = others.take((step as usize).saturating_sub(there)).cloned().collect();
        there += more.len();
        issue_all(&measured, &more).await?;
        of_tokens(&measured, &checks, machines, None, step, "memory", course).await?;
        course.total(step, "memory: authority, MiB", measured.mib()?);
    }
    Ok(())
}

async fn in_store(
    site: &Site,
    machines: &[Vm],
    remote: Remote,
    steps: &[u32],
    course: &mut Course,
) -> Result<()> {
    let (run, config) = site.config(Validate::Watched);
    let measured = Measured::start((run, config.with_store(&remote.store)), machines.len()).await?;
    let [store] = children_named(remote.program)?[..] else { anyhow::bail!("one store runs") };
    let empty = Usage::of(store)?.rss_kib;
    let tokens = measured.tokens(&machines[..CHECKED]).await?;
    let template = template(&machines[0])?;
    let checks: Vec<_> = tokens.iter().map(|token| check(token)).collect();
    let mut there = u32::try_from(CHECKED)?;
    for &step in steps {
        remote.fill(&template, there..step).await.context("fill the store")?;
        there = there.max(step);
        of_tokens(&measured, &checks, machines, Some(store), step, remote.name, course).await?;
        let kib = Usage::of(store)?.rss_kib.saturating_sub(empty) as f64;
        // Of fewer, the store's own buffers are most.
        if step >= 10_000 {
            let heading = format!("{}: its memory, bytes a token", remote.name);
            course.cost(step, &heading, 1024.0 * kib / f64::from(step));
        }
        course.total(step, &format!("{}: its memory, MiB", remote.name), kib / 1024.0);
    }
    Ok(())
}

/// What a check costs, and an issue, with the tokens that are there.
async fn of_tokens(
    measured: &Measured,
    checks: &[String],
    machines: &[Vm],
    store: Option<u32>,
    step: u32,
    name: &str,
    course: &mut Course,
) -> Result<()> {
    let processes: Vec<u32> = [measured.id].into_iter().chain(store).collect();
    let addresses = [measured.internal()];
    let calls = Calls { addresses: &addresses, requests: checks, count: 3_000, connections: 16 };
    let checked = calls.cost(&processes).await?;
    let issues: Vec<_> = machines[CHECKED..].iter().map(|vm| issue(vm, API_TOKEN)).collect();
    let addresses = [measured.public()];
    let calls = Calls { addresses: &addresses, requests: &issues, count: 60, connections: 1 };
    let issued = calls.cost(&processes).await?;
    for (work, cost) in [("check", checked), ("issue", issued)] {
        course.cost(step, &format!("{name}: {work}, CPU µs"), cost.cpu_us[0]);
        if let Some(of_store) = cost.cpu_us.get(1) {
            course.cost(step, &format!("{name}: {work}, its CPU µs"), *of_store);
        }
    }
    Ok(())
}

/// Issues a token for each machine, as fast as it goes.
async fn issue_all(measured: &Measured, machines: &[Vm]) -> Result<()> {
    const CONNECTIONS: usize = 8;
    let mut tasks = JoinSet::new();
    for part in machines.chunks(machines.len().div_ceil(CONNECTIONS).max(1)) {
        let requests: Vec<_> = part.iter().map(|vm| issue(vm, API_TOKEN)).collect();
        let address = measured.public();
        tasks.spawn_local(async move {
            let mut caller = Caller::connect(address).await?;
            for request in requests {
                token(caller.call(&request).await?)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a caller's task")??;
    }
    Ok(())
}

/// The record of a token for a machine, as the authority writes it (authority/src/tokens/record.rs), but for what a token
/// has of its own.
fn template(vm: &Vm) -> Result<Value> {
    let now = SystemTime::now();
    let time = |at: SystemTime| -> Result<Value> {
        let since = at.duration_since(UNIX_EPOCH)?;
        Ok(json!({"secs_since_epoch": since.as_secs(), "nanos_since_epoch": since.subsec_nanos()}))
    };
    Ok(json!({
        "instance": vm.instance_uuid, "console": "novnc", "service_host": "vcenter-a",
        "vcenter_uuid": "dbed6e0c-bd88-4ef6-b594-21283e1c677f", "machine": "vm-10000",
        "host": "127.1.0.0", "host_reference": "host-1000", "protocol": {"vnc": {"port": 5901}},
        "caller": "", "project": null, "machine_name": vm.name,
        "issued_at": time(now)?, "expires_at": time(now + LIFE)?,
    }))
}

impl Remote {
    /// Writes tokens of these numbers, each for a machine of its own.
    /// Fails when the store does not take one.
    async fn fill(&self, template: &Value, numbers: std::ops::Range<u32>) -> Result<()> {
        let is_redis = self.store.kind() == "redis";
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + LIFE;
        let mut record = template.clone();
        let mut commands = String::new();
        let mut connection = Pipeline::connect(self.store.address()).await?;
        for number in numbers {
            let hash = sha256(&number.to_be_bytes());
            let instance = format!("00000000-0000-4000-8000-{number:012x}");
            let caller = format!("api_token:portal-{}", number / OF_A_CALLER);
            record["instance"] = instance.as_str().into();
            record["caller"] = caller.as_str().into();
            let (token, list) =
                (format!("vncgate:token:{hash}"), format!("vncgate:instance:{instance}"));
            let text = record.to_string();
            if is_redis {
                let life = LIFE.as_millis().to_string();
                let caller = format!("vncgate:caller:{caller}");
                let expires = expires.as_millis().to_string();
                for command in [
                    &["SET", &token, &text, "PX", &life][..],
                    &["RPUSH", &list, &hash],
                    &["PEXPIRE", &list, &life],
                    &["ZADD", &caller, &expires, &hash],
                ] {
                    resp(&mut commands, command);
                }
            } else {
                let life = LIFE.as_secs();
                for (key, value) in [(&token, &text), (&list, &hash)] {
                    // Quiet: what was stored is not answered.
                    write!(commands, "ms {key} {} T{life} q\r\n{value}\r\n", value.len())?;
                }
            }
            if commands.len() >= PIECE {
                connection.send(&commands).await?;
                commands.clear();
            }
        }
        if is_redis {
            resp(&mut commands, &["ECHO", END]);
        } else {
            commands.push_str("mn\r\n");
        }
        connection.send(&commands).await?;
        connection.end(if is_redis { END } else { "MN" }).await
    }
}

/// What Redis echoes when it has done everything before.
const END: &str = "filled";

/// A command of Redis, as its protocol has it.
fn resp(commands: &mut String, words: &[&str]) {
    write!(commands, "*{}\r\n", words.len()).expect("a String takes every text");
    for word in words {
        write!(commands, "${}\r\n{word}\r\n", word.len()).expect("a String takes every text");
    }
}

/// A connection whose answers are read while commands are sent.
struct Pipeline {
    writer: tokio::net::tcp::OwnedWriteHalf,
    answers: tokio::task::JoinHandle<Result<String>>,
}

impl Pipeline {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let (mut reader, writer) = TcpStream::connect(address).await?.into_split();
        let answers = tokio::task::spawn_local(async move {
            let (mut last, mut buffer) = (String::new(), vec![0; 64 * 1024]);
            loop {
                let read = reader.read(&mut buffer).await?;
                if read == 0 {
                    return Ok(last);
                }
                last.push_str(std::str::from_utf8(&buffer[..read])?);
                // Redis answers an error with "-…", memcached with "…ERROR…" or a status other than HD.
                let wrong = last.lines().find(|line| {
                    line.starts_with('-') || line.contains("ERROR") || matches!(*line, "NS" | "EX")
                });
                ensure!(wrong.is_none(), "the store answered {wrong:?}");
                let kept = last.len().saturating_sub(64);
                last.drain(..kept);
            }
        });
        Ok(Self { writer, answers })
    }

    async fn send(&mut self, commands: &str) -> Result<()> {
        Ok(self.writer.write_all(commands.as_bytes()).await?)
    }

    /// Waits until everything is done, whose last answer is this.
    /// Fails when the store did not take something.
    async fn end(mut self, answer: &str) -> Result<()> {
        self.writer.shutdown().await?;
        let last = self.answers.await.context("the reader's task")??;
        ensure!(last.trim_end().ends_with(answer), "the store's last answer is {last:?}");
        Ok(())
    }
}
