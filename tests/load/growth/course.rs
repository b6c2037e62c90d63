//! The figures of something that grows.

use vncgate_load::results::number;

/// All figures, in the order in which they first came.
#[derive(Debug)]
pub(crate) struct Course {
    name: &'static str,
    pub(crate) figures: Vec<Figure>,
}

/// One figure at each step.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What it is, with its unit.
    pub(crate) heading: String,
    /// Of what it is. A cost should not grow at all, a total may.
    pub(crate) kind: Kind,
    /// What it was at a step. A figure need not be there at every step.
    pub(crate) values: Vec<(u32, f64)>,
}

/// Of what a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of one piece of work.
    Cost,
    /// Of everything.
    Total,
}

impl Course {
    /// One without figures.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new() }
    }

    /// What a piece of work cost at a step.
    pub(crate) fn cost(&mut self, step: u32, heading: &str, value: f64) {
        self.add(step, heading, Kind::Cost, value);
    }

    /// What there was in all at a step.
    pub(crate) fn total(&mut self, step: u32, heading: &str, value: f64) {
        self.add(step, heading, Kind::Total, value);
    }

    fn add(&mut self, step: u32, heading: &str, kind: Kind, value: f64) {
        eprintln!("{} {step}: {heading}: {}", self.name, number(value));
        match self.figures.iter_mut().find(|figure| figure.heading == heading) {
            Some(figure) => figure.values.push((step, value)),
            None => {
                let (heading, values) = (heading.to_owned(), vec![(step, value)]);
                self.figures.push(Figure { heading, kind, values });
            }
        }
    }
}

impl Figure {
    /// What it was at a step.
    pub(crate) fn at(&self, step: u32) -> Option<f64> {
        self.values.iter().find(|(of, _)| *of == step).map(|(_, value)| *value)
    }

    /// How many times the first value the last one is. `None` for one value, and where the first is nothing.
    pub(crate) fn growth(&self) -> Option<f64> {
        let [(_, first), .., (_, last)] = self.values[..] else { return None };
        (first > 0.0).then_some(last / first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_grows_from_its_first_step_to_its_last() {
        let mut course = Course::new("test");
        course.cost(10, "a", 2.0);
        course.total(10, "b", 1.0);
        course.cost(100, "a", 3.0);
        let [a, b] = &course.figures[..] else { panic!("{course:?}") };
        assert_eq!((a.at(10), a.at(100), a.at(1000)), (Some(2.0), Some(3.0), None));
        assert_eq!((a.growth(), b.growth()), (Some(1.5), None));
    }
}
