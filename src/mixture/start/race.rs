//! Candidates side by side on the sample: the worse half leaves after each leg, which is twice as long as the one before
//! (successive halving: Jamieson & Talwalkar 2016). Those that are left run until each stops. One that comes where a better
//! one is, or ends at the optimum of one that has ended, leaves too, and one that left in the last halving takes its place;
//! so does one where all that are found have collapsed.

use super::super::error::{Error, Result};
use super::super::fit::{Em, Options};
use super::super::model::Model;
use super::collapse::Judged;
use super::{objective, scored, Effort, Scored, Search};

/// Mean objectives of candidates that stopped and differ by no more belong to one optimum;
pub const SAME: f64 = 1e-5;
/// of candidates on their way, where they differ by no more than this and each component is near one of the other.
const CLOSE: f64 = 3e-2;

/// Runs candidates, those that are drawn twice once, until so many ends are found. Candidates that fail are passed over as
/// long as one does not.
pub fn race(search: Search, candidates: Vec<Result<Model>>, effort: Effort) -> Result<Vec<Scored>> {
    let mut failure = Error::Interrupted;
    let mut models: Vec<Model> = Vec::new();
    for candidate in candidates {
        match candidate {
            Ok(model) if models.iter().any(|other| other.has_components_of(&model)) => {}
            Ok(model) => models.push(model),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => failure = error,
        }
    }
    let Effort { warm_up, warm, finalists, mut leg, .. } = effort;
    if warm_up > 0 {
        let options = Options { accelerate: false, tol: 0.0, ..search.options.clone() };
        let warmed_up = run(search, started(models, &options), Some(warm_up), &mut failure)?;
        models = warmed_up.iter().take(warm).map(|em| em.ask().clone()).collect();
    }
    let mut field = started(models, search.options);
    let mut last_to_leave = Vec::new();
    while field.len() > finalists {
        field = run(search, field, Some(leg), &mut failure)?;
        last_to_leave = field.split_off(field.len().div_ceil(2));
        leg *= 2;
    }
    let mut found: Vec<Loop> = Vec::new();
    let mut waiting = last_to_leave.into_iter();
    let mut wanted = finalists;
    let total = search.sample.weight.iter().sum();
    while found.len() < wanted {
        field.extend(waiting.by_ref().take(wanted - found.len() - field.len()));
        if field.is_empty() {
            break;
        }
        let iterations = (field.len() > 1).then_some(leg);
        let mut going = Vec::new();
        for em in run(search, field, iterations, &mut failure)? {
            if found.iter().any(|other| have_met(search, total, other, &em)) {
                continue;
            }
            let list = if em.is_done() { &mut found } else { &mut going };
            list.push(em);
        }
        field = going;
        leg *= 2;
        if found.len() == finalists && wanted == finalists && !any_is_sound(search, &found)? {
            wanted += 1;
        }
    }
    if found.is_empty() {
        return Err(failure);
    }
    Ok(found.iter().map(|em| scored(em)).collect())
}

/// A loop, which is large, where it can be passed on.
type Loop = Box<Em>;

fn started(models: Vec<Model>, options: &Options) -> Vec<Loop> {
    models.into_iter().map(|model| Box::new(Em::new(model, options.clone(), false))).collect()
}

/// The candidates after so many iterations, or until each stops, the best first, without those that have met a better one.
fn run(search: Search, field: Vec<Loop>, iterations: Option<u32>, failure: &mut Error) -> Result<Vec<Loop>> {
    let ran = search.each(field, |search, mut em| {
        search.run(&mut em, iterations)?;
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
    let total = search.sample.weight.iter().sum();
    let mut apart: Vec<Loop> = Vec::new();
    for em in field {
        if !apart.iter().any(|other| have_met(search, total, other, &em)) {
            apart.push(em);
        }
    }
    Ok(apart)
}

/// Whether no component of one of them has collapsed.
fn any_is_sound(search: Search, found: &[Loop]) -> Result<bool> {
    for em in found {
        match Judged::new(search, scored(em)) {
            Ok(judged) if judged.lost.is_empty() => return Ok(true),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

/// Whether two candidates are on their way to one optimum, or have stopped there; rows weigh `total`.
fn have_met(search: Search, total: f64, a: &Em, b: &Em) -> bool {
    let difference = (objective(a) - objective(b)).abs() / total;
    let stopped = a.is_done() && b.is_done() && difference <= search.options.tol.max(SAME);
    stopped || (difference <= CLOSE && a.ask().is_near(b.ask()))
}
