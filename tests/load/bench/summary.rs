//! From samples to medians, spreads and ratios.

use crate::contender::Contender;
use crate::results::{Results, Sample};

/// A figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            values[middle - 1].midpoint(values[middle])
        };
        Some(Self { median, least, most })
    }
}

impl Results {
    /// A contender's figure over all rounds.
    pub(crate) fn spread(
        &self,
        measure: &str,
        contender: Contender,
        figure: &str,
    ) -> Option<Spread> {
        let samples = self.samples_of(measure, contender);
        Spread::of(samples.filter_map(|sample| sample.figures.get(figure).copied()).collect())
    }

    /// A contender's figure divided by the rival's of the same round, over all rounds: what disturbs a
    /// round disturbs both.
    pub(crate) fn ratio(
        &self,
        measure: &str,
        contender: Contender,
        rival: Contender,
        figure: &str,
    ) -> Option<Spread> {
        self.pairs(measure, contender, rival, figure, |own, other| own / other)
    }

    /// A contender's figure less the rival's of the same round, over all rounds.
    pub(crate) fn difference(
        &self,
        measure: &str,
        contender: Contender,
        rival: Contender,
        figure: &str,
    ) -> Option<Spread> {
        self.pairs(measure, contender, rival, figure, |own, other| own - other)
    }

    fn pairs(
        &self,
        measure: &str,
        contender: Contender,
        rival: Contender,
        figure: &str,
        compare: fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let compared = self.samples_of(measure, contender).filter_map(|own| {
            let mut same_round =
                self.samples_of(measure, rival).filter(|sample| sample.round == own.round);
            Some(compare(*own.figures.get(figure)?, *same_round.next()?.figures.get(figure)?))
        });
        Spread::of(compared.collect())
    }

    /// The samples of one contender.
    pub(crate) fn samples_of<'a>(
        &'a self,
        measure: &'a str,
        contender: Contender,
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.measure == measure && sample.contender == contender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let odd = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(odd, Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(vec![]), None);
    }
}
