use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::mixture::codec::pack;
use crate::mixture::rows::{Block, Sample};
use crate::mixture::testing::{assert_close, bits, model, sample, whole_weights};

const FULL: CovarianceType = CovarianceType::Full;

fn options(covariance_type: CovarianceType, max_iter: u32, tol: f64) -> Options {
    Options { covariance_type, max_iter, tol, covariance_floor: 1e-6, accelerate: false, prior: None }
}

fn evaluate(model: &Model, rows: &Sample) -> Statistics {
    let form = model.covariance_type().structure().scatter();
    Pass::SEQUENTIAL.e_step(rows, &model.density().unwrap(), form).unwrap()
}

fn fitted(start: Model, options: Options, rows: &Sample) -> Em {
    let mut em = Em::new(start, options, false);
    assert!(em.run(rows, Pass::SEQUENTIAL, None).unwrap());
    em
}

fn whole(em: &Em) -> String {
    serde_json::to_string(em).unwrap()
}

/// A loop told these mean log-likelihoods, of ten rows, until it is done.
fn told(values: &[f64], options: Options) -> Em {
    let start = model(FULL, 2, 2, 1);
    let mut statistics = evaluate(&start, &sample(10, 2, 1));
    let mut em = Em::new(start, options, false);
    for value in values {
        assert_eq!(em.outcome, None);
        statistics.log_likelihood = 10.0 * value;
        em.tell(&statistics).unwrap();
    }
    em
}

#[test]
fn options_have_ranges() {
    let good = options(FULL, 0, 0.0);
    assert_eq!(good.clone().check(), Ok(good.clone()));
    for tol in [-1e-300, f64::NAN, f64::INFINITY] {
        let error = Options { tol, ..good.clone() }.check().unwrap_err();
        assert!(matches!(error, Error::Option { option: "tol", .. }));
    }
    for covariance_floor in [-1e-300, 1.0, f64::NAN, f64::INFINITY] {
        let error = Options { covariance_floor, ..good.clone() }.check().unwrap_err();
        assert!(matches!(error, Error::Option { option: "covariance_floor", .. }));
    }
}

#[test]
fn the_objective_never_falls() {
    for seed in 0..12 {
        for kind in CovarianceType::ALL {
            let (d, k) = (1 + seed as usize % 4, 1 + seed as usize % 5);
            let mut rows = sample(150, d, seed);
            if seed % 2 == 0 {
                rows = whole_weights(rows);
            }
            for covariance_floor in [0.0, 1e-6, 0.05] {
                let start = Model::maximize(
                    model(kind, k, d, seed).features(),
                    kind,
                    &evaluate(&model(kind, k, d, seed), &rows),
                    covariance_floor,
                    None,
                );
                let options = Options { covariance_floor, ..options(kind, 60, 0.0) };
                let mut em = Em::new(start.unwrap(), options, false);
                let run = em.run(&rows, Pass::SEQUENTIAL, None);
                let singular = matches!(run, Err(Error::NotPositiveDefinite { .. }));
                assert!(run.is_ok() || (singular && covariance_floor == 0.0), "{run:?}");
                assert_ne!(em.outcome, Some(Outcome::Stalled), "{seed} {kind:?} {covariance_floor}");
                for pair in em.history.windows(2) {
                    let (before, after) = (pair[0].log_likelihood, pair[1].log_likelihood);
                    assert!(after >= before - 1e-11 * before.abs(), "{seed} {kind:?} {before} {after}");
                }
                let first = em.history[0].log_likelihood;
                assert!(k == 1 || singular || em.log_likelihood().unwrap() > first);
            }
        }
    }
}

#[test]
fn no_iteration_evaluates_the_start() {
    let rows = whole_weights(sample(300, 2, 3));
    for kind in CovarianceType::ALL {
        let start = model(kind, 3, 2, 4);
        let em = fitted(start.clone(), options(kind, 0, 1e-3), &rows);
        let statistics = evaluate(&start, &rows);
        let expected = Training {
            log_likelihood: Some(statistics.log_likelihood),
            entropy: Some(statistics.entropy),
            n_rows: Some(statistics.n_rows),
            total_weight: Some(rows.weight.iter().sum()),
            n_iter: Some(0),
            converged: Some(false),
        };
        let mut evaluated = start;
        evaluated.training = expected;
        assert_eq!(em.model(), Some(evaluated));
        let record = Record { iteration: 0, log_likelihood: statistics.log_likelihood, change: None };
        assert_eq!((em.history(), em.outcome), (&[record][..], Some(Outcome::MaxIter)));
    }
}

#[test]
fn without_a_tolerance_all_iterations_are_made() {
    // Long past the fixed point, where the likelihood rises and falls by rounding.
    let mut rows = sample(200, 2, 3);
    for (i, x) in rows.columns[0].iter_mut().enumerate() {
        *x += 10.0 * (i % 3) as f64;
    }
    let mut falls = 0;
    for kind in CovarianceType::ALL {
        let em = fitted(model(kind, 3, 2, 4), options(kind, 400, 0.0), &rows);
        assert_eq!((em.history().len(), em.outcome), (401, Some(Outcome::MaxIter)), "{kind:?}");
        assert_eq!(em.model().unwrap().training.converged, Some(false));
        falls += em.history().iter().filter(|r| r.change.is_some_and(|change| change < 0.0)).count();
    }
    assert!(falls > 0);
}

#[test]
fn the_history_tells_of_every_evaluation() {
    let rows = whole_weights(sample(300, 2, 3));
    let total: f64 = rows.weight.iter().sum();
    for max_iter in [1, 2, 7] {
        let em = fitted(model(FULL, 3, 2, 4), options(FULL, max_iter, 0.0), &rows);
        assert_eq!(em.history().len(), max_iter as usize + 1);
        for (i, record) in em.history().iter().enumerate() {
            let value = fitted(model(FULL, 3, 2, 4), options(FULL, i as u32, 0.0), &rows).log_likelihood();
            assert_eq!((record.iteration, Some(record.log_likelihood)), (i as u32, value));
            let before = i.checked_sub(1).map(|b| em.history()[b].log_likelihood);
            assert_eq!(record.change, before.map(|b| (record.log_likelihood - b) / total));
        }
        let model = em.model().unwrap();
        assert_eq!((em.iteration(), model.training.n_iter), (max_iter, Some(max_iter)));
        assert_eq!(model.training.log_likelihood, em.log_likelihood());
    }
}

#[test]
fn the_figures_are_those_of_the_model_returned() {
    let rows = sample(300, 2, 3);
    for (max_iter, tol) in [(3, 0.0), (1000, 1e-4)] {
        let model = fitted(model(FULL, 3, 2, 4), options(FULL, max_iter, tol), &rows).model().unwrap();
        let statistics = evaluate(&model, &rows);
        assert_eq!(model.training.log_likelihood, Some(statistics.log_likelihood));
        assert_eq!(model.training.entropy, Some(statistics.entropy));
    }
}

#[test]
fn it_stops_within_tol_of_the_limit() {
    for seed in 0..6 {
        let rows = sample(300, 2, seed);
        for kind in CovarianceType::ALL {
            for accelerate in [false, true] {
                let options = |tol| Options { accelerate, ..options(kind, 100_000, tol) };
                let mean = |em: &Em| em.log_likelihood().unwrap() / 300.0;
                let limit = fitted(model(kind, 2, 2, 4), options(1e-13), &rows);
                for tol in [1e-3, 1e-5, 1e-7] {
                    let em = fitted(model(kind, 2, 2, 4), options(tol), &rows);
                    let short = mean(&limit) - mean(&em);
                    assert!(short < 4.0 * tol, "{seed} {kind:?} {accelerate} {tol}: {short}");
                    assert_eq!(em.outcome, Some(Outcome::Converged));
                    assert_eq!(em.model().unwrap().training.converged, Some(true));
                }
            }
        }
    }
}

#[test]
fn the_rules_of_stopping() {
    let options = options(FULL, 9, 1e-3);
    let outcome = |values: &[f64]| told(values, options.clone()).outcome;
    assert_eq!(outcome(&[-3.0]), None);
    assert_eq!(outcome(&[-3.0, -3.0]), None, "a start says nothing");
    assert_eq!(outcome(&[-3.0, -3.5]), None, "nor is it above what climbs");
    assert_eq!(outcome(&[-4.0, -3.0, -3.0 - 1e-11]), Some(Outcome::Converged));
    let em = told(&[-4.0, -3.0, -3.0 - 1e-7], options.clone());
    assert_eq!((em.outcome, em.log_likelihood()), (Some(Outcome::Converged), Some(-30.0)), "below tol");
    assert_eq!(outcome(&[-4.0, -3.0, -3.0 - 2e-3]), Some(Outcome::Stalled));
    let rising: Vec<f64> = (0..10).map(f64::from).collect();
    assert_eq!(outcome(&rising[..1]), None);
    let without = Options { tol: 0.0, ..options.clone() };
    assert_eq!(told(&rising, without.clone()).outcome, Some(Outcome::MaxIter));
    assert_eq!(told(&[-4.0, -3.0, -3.0, -3.0 - 1e-13], without).outcome, None);
}

/// Two components a standard deviation apart: EM creeps.
fn overlapping(seed: u64) -> Sample {
    let mut rows = sample(600, 2, seed);
    for (i, x) in rows.columns[0].iter_mut().enumerate() {
        *x = (*x - 3.0 * ((i % 3) as f64).sin()) + 1.2 * (i % 2) as f64;
    }
    rows
}

#[test]
fn acceleration_takes_fewer_passes_to_the_same_limit() {
    let mut logs = Vec::new();
    for seed in 0..5 {
        for kind in CovarianceType::ALL {
            let rows = overlapping(seed);
            let plain = options(kind, 50_000, 1e-12);
            let run =
                |accelerate| fitted(model(kind, 2, 2, 4), Options { accelerate, ..plain.clone() }, &rows);
            let (slow, fast) = (run(false), run(true));
            let limit = |em: &Em| em.log_likelihood().unwrap() / 600.0;
            let passes = |em: &Em| {
                let near = |r: &&Record| r.log_likelihood / 600.0 > limit(em) - 1e-6;
                f64::from(em.history().iter().find(near).unwrap().iteration)
            };
            if (limit(&slow) - limit(&fast)).abs() < 1e-6 {
                assert!(passes(&fast) <= (1.1 * passes(&slow)).max(passes(&slow) + 3.0), "{seed} {kind:?}");
                logs.push((passes(&slow) / passes(&fast)).ln());
            }
        }
    }
    let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    assert!(logs.len() >= 15 && mean > 3.0, "{mean} over {}", logs.len());
}

#[test]
fn accelerated_the_objective_never_falls_and_refused_steps_leave_no_trace() {
    let mut refused = 0;
    for seed in 0..8 {
        for kind in CovarianceType::ALL {
            let rows = whole_weights(overlapping(seed));
            let accelerated = Options { accelerate: true, ..options(kind, 300, 1e-12) };
            let em = fitted(model(kind, 4, 2, seed), accelerated, &rows);
            for pair in em.history().windows(2) {
                let (before, after) = (pair[0].log_likelihood, pair[1].log_likelihood);
                assert!(after >= before - 1e-11 * before.abs() && pair[1].iteration > pair[0].iteration);
            }
            refused += em.iteration() as usize + 1 - em.history().len();
            let model = em.model().unwrap();
            assert_eq!(model.training.log_likelihood, Some(evaluate(&model, &rows).log_likelihood));
        }
    }
    assert!(refused > 0);
}

#[test]
fn accelerated_loops_move_between_machines() {
    let rows = overlapping(3);
    for kind in CovarianceType::ALL {
        let mut em =
            Em::new(model(kind, 3, 2, 4), Options { accelerate: true, ..options(kind, 60, 1e-12) }, true);
        let mut moved = em.clone();
        while !em.run(&rows, Pass::SEQUENTIAL, Some(1)).unwrap() {
            moved = serde_json::from_str(&whole(&moved)).unwrap();
            moved.run(&rows, Pass::SEQUENTIAL, Some(1)).unwrap();
            assert_eq!(whole(&moved), whole(&em));
        }
    }
}

#[test]
fn a_loop_that_forgets_goes_on_to_the_same_limit() {
    for seed in 0..4 {
        let rows = overlapping(seed);
        let options = Options { accelerate: true, ..options(FULL, 5000, 1e-10) };
        let mut em = Em::new(model(FULL, 2, 2, seed), options.clone(), false);
        while !em.run(&rows, Pass::SEQUENTIAL, Some(20)).unwrap() {
            let known = (em.objective(), em.iteration());
            em.forget();
            assert_eq!((em.objective(), em.iteration()), known);
            assert_eq!(em.accepted(), None);
        }
        let last = em.accepted().cloned();
        em.forget();
        assert!(last.is_some() && em.accepted() == last.as_ref());
        for pair in em.history().windows(2) {
            let (before, after) = (pair[0].log_likelihood, pair[1].log_likelihood);
            assert!(after >= before - 1e-11 * before.abs());
        }
        let whole = fitted(model(FULL, 2, 2, seed), options, &rows);
        let rows = rows.weight.len() as f64;
        assert_close(em.objective().unwrap() / rows, whole.objective().unwrap() / rows, 1e-8);
    }
}

#[test]
fn a_stalled_loop_keeps_the_model_before() {
    let before = told(&[-3.0, -2.0], options(FULL, 9, 1e-3));
    let em = told(&[-3.0, -2.0, -2.5], options(FULL, 9, 1e-3));
    assert_eq!(em.outcome, Some(Outcome::Stalled));
    assert_eq!((em.model(), em.history()), (before.model(), before.history()));
    let training = em.model().unwrap().training;
    assert_eq!((training.n_iter, training.log_likelihood), (Some(1), Some(-20.0)));
    assert_eq!((em.iteration(), training.converged), (1, Some(false)));
}

#[test]
fn a_loop_that_is_done_stays_done() {
    let rows = sample(300, 2, 3);
    let mut em = fitted(model(FULL, 3, 2, 4), options(FULL, 3, 0.0), &rows);
    let before = whole(&em);
    assert_eq!(em.tell(&evaluate(&model(FULL, 3, 2, 9), &rows)), Ok(true));
    assert_eq!(em.run(&rows, Pass::SEQUENTIAL, None), Ok(true));
    assert_eq!(before, whole(&em));
}

#[test]
fn asked_and_told_by_hand_in_pieces_or_at_once() {
    let rows = whole_weights(sample(2500, 2, 3));
    for kind in CovarianceType::ALL {
        let (start, options) = (model(kind, 3, 2, 4), options(kind, 20, 1e-5));
        let once = fitted(start.clone(), options.clone(), &rows);
        let mut hand = Em::new(start.clone(), options.clone(), false);
        while !hand.tell(&evaluate(hand.ask(), &rows)).unwrap() {}
        assert_eq!(whole(&once), whole(&hand));
        let mut pieces = Em::new(start, options, false);
        assert_eq!((pieces.run(&rows, Pass::SEQUENTIAL, Some(0)), pieces.model()), (Ok(false), None));
        assert_eq!((pieces.log_likelihood(), pieces.iteration()), (None, 0));
        let mut evaluations = 0;
        while !pieces.run(&rows, Pass::SEQUENTIAL, Some(3)).unwrap() {
            evaluations += 3;
            assert_eq!(pieces.history().len(), evaluations);
            assert_eq!(pieces.model().unwrap().training.converged, Some(false));
        }
        assert_eq!(whole(&once), whole(&pieces));
    }
}

#[test]
fn a_serialised_loop_goes_on_to_the_same_bits() {
    let rows = whole_weights(sample(500, 2, 3));
    for kind in CovarianceType::ALL {
        for canonical in [false, true] {
            let mut em = Em::new(model(kind, 3, 2, 4), options(kind, 40, 1e-7), canonical);
            let mut moved = em.clone();
            loop {
                moved = serde_json::from_str(&whole(&moved)).unwrap();
                assert_eq!(whole(&moved), whole(&em));
                assert_eq!(bits(moved.ask().covariances()), bits(em.ask().covariances()));
                let done = em.run(&rows, Pass::SEQUENTIAL, Some(1)).unwrap();
                assert_eq!(moved.run(&rows, Pass::SEQUENTIAL, Some(1)), Ok(done));
                if done {
                    break;
                }
            }
            assert_eq!(whole(&moved), whole(&em));
            assert_eq!(pack(&moved.model().unwrap()), pack(&em.model().unwrap()));
            assert!(em.history().len() > 5);
        }
    }
}

#[test]
fn a_state_whose_parts_do_not_belong_together_is_not_whole() {
    let rows = whole_weights(sample(500, 2, 3));
    let prior = PriorOptions { shrinkage: 1.0, mean: Some(vec![0.0; 2]), dof: None, scale: None };
    let options = Options { prior: Some(prior), ..options(FULL, 40, 1e-9) };
    let mut em = Em::new(model(FULL, 3, 2, 4), options, false);
    assert!(em.is_whole());
    em.run(&rows, Pass::SEQUENTIAL, Some(9)).unwrap();
    let state = serde_json::to_value(&em).unwrap();
    let read = |state: serde_json::Value| serde_json::from_value::<Em>(state).unwrap().is_whole();
    assert!(read(state.clone()));
    let lists = [
        "/path/steps",
        "/path/changes",
        "/path/steps/0",
        "/path/residual",
        "/path/point",
        "/bounds/floor/unit",
        "/bounds/prior/mean",
        "/bounds/prior/scale",
        "/options/prior/mean",
    ];
    for list in lists {
        let mut shorter = state.clone();
        let _ = shorter.pointer_mut(list).unwrap().as_array_mut().unwrap().pop();
        assert!(!read(shorter), "{list}");
    }
    for other in [model(FULL, 3, 1, 4), model(FULL, 2, 2, 4)] {
        let mut changed = state.clone();
        changed["accepted"] = serde_json::to_value(&other).unwrap();
        assert!(!read(changed));
    }
}

#[test]
fn components_come_out_in_canonical_order_if_asked() {
    let (rows, options) = (sample(400, 2, 3), options(FULL, 25, 0.0));
    let sorted = model(FULL, 4, 2, 4).sorted();
    let turned = |model: &Model| {
        let order = [3, 1, 0, 2];
        let axis = ndarray::Axis(0);
        let (weights, means) = (model.weights().select(axis, &order), model.means().select(axis, &order));
        let covariances = model.covariances().select(axis, &order);
        Model::new(model.features().to_vec(), FULL, weights, means, covariances).unwrap()
    };
    let fit = |start: Model, canonical| {
        let mut em = Em::new(start, options.clone(), canonical);
        em.run(&rows, Pass::SEQUENTIAL, None).unwrap();
        em.model().unwrap()
    };
    let plain = fit(turned(&sorted), false);
    let canonical = fit(turned(&sorted), true);
    assert_eq!(pack(&canonical), pack(&plain.sorted()));
    assert_ne!(pack(&canonical), pack(&plain));
    assert!(canonical.means().column(0).iter().is_sorted());
    let other = fit(sorted, true);
    for (a, b) in canonical.means().iter().zip(other.means()) {
        assert_close(*a, *b, 1e-9);
    }
}

#[test]
fn likelihoods_that_are_no_number_are_named() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut em = told(&[-3.0, -2.0], options(FULL, 9, 1e-3));
        let before = whole(&em);
        let mut statistics = evaluate(em.ask(), &sample(10, 2, 1));
        statistics.log_likelihood = value;
        match em.tell(&statistics) {
            Err(Error::LikelihoodNotFinite { iteration: 2, value: got }) => {
                assert_eq!(got.to_bits(), value.to_bits());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(before, whole(&em));
    }
}

/// Rows that ask to stop when they are read for the so many-th time.
struct Stopping<'a>(&'a Sample, &'a AtomicBool, std::sync::atomic::AtomicUsize);

impl Rows for Stopping<'_> {
    fn n_rows(&self) -> usize {
        self.0.n_rows()
    }

    fn d(&self) -> usize {
        self.0.d()
    }

    fn read(&self, start: usize, block: &mut Block) {
        self.0.read(start, block);
        if self.2.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_interrupted_loop_goes_on_from_its_last_step() {
    let rows = sample(5000, 2, 3);
    let (start, options) = (model(FULL, 3, 2, 4), options(FULL, 12, 0.0));
    let once = fitted(start.clone(), options.clone(), &rows);
    let mut em = Em::new(start, options, false);
    let cancelled = AtomicBool::new(false);
    // Twenty blocks a pass: within the fourth.
    let stopping = Stopping(&rows, &cancelled, 70.into());
    let pass = Pass { cancelled: &cancelled, ..Pass::SEQUENTIAL };
    assert_eq!(em.run(&stopping, pass, None), Err(Error::Interrupted));
    assert_eq!(em.history().len(), 3);
    assert!(em.run(&rows, Pass::SEQUENTIAL, None).unwrap());
    assert_eq!(whole(&once), whole(&em));
}
