//! A run: every measure, its rounds interleaved, each sample reported as it is made.

use crate::backend::Setup;
use crate::catalogue::{FIGURES, Measure, Parts};
use crate::contender::Peer;
use crate::cores;
use crate::measure::Measured;
use crate::results::{Results, Sample};
use crate::table::number;
use crate::testbed::Testbed;
use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::rc::Rc;
use std::time::Instant;

/// Runs measures of some peers and returns all samples. Needs a `LocalSet`.
/// Fails when a measurement fails: a session that broke, bytes that were lost.
pub(crate) async fn run(measures: &[&Measure], peers: &[Peer]) -> Result<Results> {
    raise_descriptor_limit()?;
    cores::pin_load()?;
    let mut results = Results::begin()?;
    let contenders = |measure: &Measure| {
        let mut contenders = measure.contenders();
        contenders.retain(|contender| peers.contains(&contender.peer));
        contenders
    };
    let samples = measures.iter().map(|measure| measure.rounds * contenders(measure).len()).sum();
    let mut progress = Progress { started: Instant::now(), done: 0, all: samples };
    let mut shared = None;
    for measure in measures {
        for round in 0..measure.rounds {
            for contender in contenders(measure) {
                let testbed = match measure.parts() {
                    Parts::Fresh(setup) => Rc::new(Testbed::start(setup).await?),
                    Parts::Shared => match &shared {
                        Some(testbed) => Rc::clone(testbed),
                        None => {
                            let testbed = Rc::new(Testbed::start(Setup::USUAL).await?);
                            Rc::clone(shared.insert(testbed))
                        }
                    },
                };
                let measured = measure.run(&testbed, contender).await;
                let Measured { figures, cost } = measured
                    .with_context(|| format!("{} of {contender}, round {round}", measure.name))?;
                let measure = measure.name.to_owned();
                let sample = Sample { measure, contender, round, figures, cost };
                progress.report(&sample);
                results.samples.push(sample);
            }
        }
    }
    results.seconds = progress.started.elapsed().as_secs_f64();
    Ok(results)
}

/// Thousands of sessions are open at once, each with a descriptor in clients and servers, and two in
/// the proxies, which inherit the limit.
fn raise_descriptor_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of descriptors")
}

/// A line on standard error for each sample.
struct Progress {
    started: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    fn report(&mut self, sample: &Sample) {
        self.done += 1;
        let figures: Vec<_> = FIGURES
            .iter()
            .filter_map(|figure| {
                let value = sample.figures.get(figure.name)?;
                Some(format!("{} {}", number(value * figure.scale), figure.heading))
            })
            .collect();
        let seconds = self.started.elapsed().as_secs();
        eprintln!(
            "[{}/{} {}:{:02}] {} {}: {}",
            self.done,
            self.all,
            seconds / 60,
            seconds % 60,
            sample.measure,
            sample.contender,
            figures.join(", ")
        );
    }
}
