//! Candidates side by side on the sample: the worse half leaves after each leg, which is twice as long as the one before
//! (successive halving: Jamieson & Talwalkar 2016). Those that are left run until each stops. One that comes where a better
//! one is, or ends at the optimum of one that has ended, leaves too, and one that left in the last halving takes its place.

use super::super::error::{Error, Result};
use super::super::fit::Em;
use super::super::model::Model;
use super::{objective, scored, Scored, Search};

/// EM iterations each candidate gets before half of them go.
const LEG: u32 = 6;
/// Mean objectives that differ by no more belong to one optimum.
pub const SAME: f64 = 1e-5;
/// Two candidates are at one place if means and deviations of their components differ by less than this share of a
/// deviation, weights by this share, and mean objectives by this many times what one optimum's differ by.
const NEAR: f64 = 0.05;
const ALIKE: f64 = 10.0;

/// Runs candidates, those that are drawn twice once, until so many ends are found. Candidates that fail are passed over as
/// long as one does not.
pub fn race(search: Search, candidates: Vec<Result<Model>>, finalists: usize) -> Result<Vec<Scored>> {
    let mut failure = Error::Interrupted;
    let mut field: Vec<Em> = Vec::new();
    for candidate in candidates {
        match candidate {
            Ok(model) if field.iter().any(|em| em.ask().has_components_of(&model)) => {}
            Ok(model) => field.push(Em::new(model, search.options.clone(), false)),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => failure = error,
        }
    }
    let mut leg = LEG;
    let mut last_to_leave = Vec::new();
    while field.len() > finalists {
        field = run(search, field, Some(leg), &mut failure)?;
        last_to_leave = field.split_off(field.len().div_ceil(2));
        leg *= 2;
    }
    let mut ends = Ends { search, found: Vec::new() };
    let mut waiting = last_to_leave.into_iter();
    while ends.found.len() < finalists {
        field.extend(waiting.by_ref().take(finalists - ends.found.len() - field.len()));
        if field.is_empty() {
            break;
        }
        let iterations = (field.len() > 1).then_some(leg);
        field = ends.settle(run(search, field, iterations, &mut failure)?);
        leg *= 2;
    }
    if ends.found.is_empty() {
        return Err(failure);
    }
    Ok(ends.found)
}

/// The candidates after so many iterations, or until each stops, the best first.
fn run(search: Search, field: Vec<Em>, iterations: Option<u32>, failure: &mut Error) -> Result<Vec<Em>> {
    let ran = search.each(field, |search, mut em| {
        em.run(&search.rows(), search.pass, iterations)?;
        if search.large {
            em.forget();
        }
        Ok(em)
    });
    let mut field = Vec::new();
    for em in ran {
        match em {
            Ok(em) => field.push(em),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => *failure = error,
        }
    }
    field.sort_by(|a, b| objective(b).total_cmp(&objective(a)));
    Ok(field)
}

/// Where candidates ended, each at another optimum.
struct Ends<'a> {
    search: Search<'a>,
    found: Vec<Scored>,
}

impl Ends<'_> {
    /// Takes those that have ended, and gives back the others, but for those that are where a better one is.
    fn settle(&mut self, field: Vec<Em>) -> Vec<Em> {
        let apart = self.search.options.tol.max(SAME) * self.search.sample.weight.iter().sum::<f64>();
        let mut going: Vec<Em> = Vec::new();
        for em in field {
            let value = objective(&em);
            let at = |other: f64, model: Option<&Model>| {
                let both = em.accepted().zip(model);
                (value - other).abs() <= ALIKE * apart && both.is_some_and(|(a, b)| coincide(a, b))
            };
            let ended = self.found.iter();
            if ended.clone().any(|(other, model)| at(*other, Some(model)))
                || going.iter().any(|other| at(objective(other), other.accepted()))
            {
                continue;
            }
            if !em.is_done() {
                going.push(em);
            } else if ended.clone().all(|(other, _)| (value - other).abs() > apart) {
                self.found.push(scored(&em));
            }
        }
        going
    }
}

/// Whether each component of a model is near one of another.
fn coincide(a: &Model, b: &Model) -> bool {
    let near = |c: usize, e: usize| {
        (a.weights()[c] - b.weights()[e]).abs() <= NEAR * a.weights()[c]
            && (0..a.d()).all(|j| {
                let (own, other) = (a.variance(c, j).sqrt(), b.variance(e, j).sqrt());
                (a.means()[[c, j]] - b.means()[[e, j]]).abs() <= NEAR * own
                    && (own - other).abs() <= NEAR * own
            })
    };
    (0..a.k()).all(|c| (0..b.k()).any(|e| near(c, e)))
}
