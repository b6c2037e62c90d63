//! A run: every measure, its rounds interleaved, each sample reported as it is made.

use crate::backend::Setup;
use crate::catalogue::{Effort, FIGURES, Measure, Parts};
use crate::contender::{Contender, Peer};
use crate::measure::Measured;
use crate::results::{Results, Sample};
use crate::testbed::Testbed;
use anyhow::{Context, Result};
use std::rc::Rc;
use std::time::Instant;
use vncgate_load::cores;
use vncgate_load::results::number;
use vncgate_load::usage::{DESCRIPTORS, allow_descriptors};

/// Runs measures of some peers and returns all samples. Needs a `LocalSet`.
/// Fails when a measurement fails: a session that broke, bytes that were lost. Failures of another project's proxy are among
/// the results.
pub(crate) async fn run(measures: &[&Measure], peers: &[Peer], effort: Effort) -> Result<Results> {
    // Thousands of sessions are open at once, each with a descriptor in clients and servers, and two in the proxies, which
    // inherit the limit.
    allow_descriptors(DESCRIPTORS)?;
    cores::pin_load()?;
    let mut results = Results::begin(effort)?;
    let contenders = |measure: &Measure| {
        let mut contenders = measure.contenders_of(effort);
        contenders.retain(|contender| peers.contains(&contender.peer));
        contenders
    };
    let samples_of = |measure: &&Measure| measure.rounds(effort) * contenders(measure).len();
    let samples = measures.iter().map(samples_of).sum();
    let mut progress = Progress { started: Instant::now(), done: 0, all: samples };
    let mut shared = None;
    for measure in measures {
        for round in 0..measure.rounds(effort) {
            for contender in contenders(measure) {
                let testbed = match measure.parts() {
                    Parts::Fresh(setup) => Rc::new(Testbed::start(setup, &[contender.peer]).await?),
                    Parts::Shared => match &shared {
                        Some(testbed) => Rc::clone(testbed),
                        None => {
                            let testbed = Rc::new(Testbed::start(Setup::USUAL, peers).await?);
                            Rc::clone(shared.insert(testbed))
                        }
                    },
                };
                match sample(measure, &testbed, contender, round, effort).await {
                    Ok(sample) => {
                        progress.report(&sample);
                        results.samples.push(sample);
                    }
                    Err(error) if contender.peer.program().is_some() => {
                        progress.all -= 1;
                        eprintln!("{error:#}");
                        results.failures.push(format!("{error:#}"));
                        // Nothing that its sessions have left behind is in the next measurement.
                        shared = None;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    results.seconds = progress.started.elapsed().as_secs_f64();
    Ok(results)
}

async fn sample(
    measure: &Measure,
    testbed: &Rc<Testbed>,
    contender: Contender,
    round: usize,
    effort: Effort,
) -> Result<Sample> {
    let measured = measure.run(testbed, contender, effort).await;
    let Measured { figures, cost } =
        measured.with_context(|| format!("{} of {contender}, round {round}", measure.name))?;
    Ok(Sample { measure: measure.name.to_owned(), contender, round, figures, cost })
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
