use std::sync::atomic::AtomicBool;

use super::*;
use crate::mixture::codec::pack;
use crate::mixture::covariance::CovarianceType;
use crate::mixture::pass::Execution;
use crate::mixture::testing::{assert_all_close, assert_close, model, names, sample as rows, whole_weights};

const METHODS: [Method; 3] = [Method::KMeansPlusPlus, Method::KMeans, Method::Random];

fn options(covariance_type: CovarianceType) -> Options {
    Options {
        covariance_type,
        max_iter: 50,
        tol: 1e-4,
        covariance_floor: 1e-6,
        accelerate: true,
        prior: None,
    }
}

fn start(draw: Draw, rows: &Sample, kind: CovarianceType) -> Result<Model> {
    draw.start(&names(rows.columns.len()), rows, &options(kind), Pass::SEQUENTIAL)
}

fn search<'a>(
    features: &'a Arc<[String]>,
    sample: &'a Sample,
    options: &'a Options,
    passes: &'a RefCell<Passes<'a>>,
) -> Search<'a> {
    Search { features, sample, label: &[], options, pass: Pass::SEQUENTIAL, passes, large: false }
}

fn draw(k: usize, method: Method) -> Draw {
    Draw { k, method, n_init: None, seed: 1 }
}

/// Every method, alone and as the best of a few.
fn draws(k: usize) -> Vec<Draw> {
    let with = |n_init| METHODS.map(|method| Draw { n_init, ..draw(k, method) });
    [with(None), with(Some(1)), with(Some(3))].concat()
}

/// A model that can be evaluated, over rows that it gives a finite likelihood.
#[track_caller]
fn assert_sound(model: &Model, rows: &Sample, k: usize) -> f64 {
    assert_eq!((model.k(), model.d()), (k, rows.columns.len()));
    assert_close(model.weights().sum(), 1.0, 1e-14);
    let form = model.covariance_type().structure().scatter();
    let statistics = Pass::SEQUENTIAL.e_step(rows, &model.density().unwrap(), form).unwrap();
    assert!(statistics.log_likelihood.is_finite());
    statistics.log_likelihood
}

#[test]
fn names_are_parsed() {
    for (name, method) in ["k-means++", "k-means", "random"].into_iter().zip(METHODS) {
        assert_eq!(Method::parse(name), Ok(method));
    }
    let message = Method::parse("kmeans").unwrap_err().to_string();
    assert!(
        message.contains("\"k-means++\", \"k-means\", \"random\"") && message.ends_with("got \"kmeans\"")
    );
}

#[test]
fn the_same_seed_is_the_same_start_and_another_is_another() {
    let rows = whole_weights(rows(9000, 2, 5));
    for draw in draws(3) {
        let first = start(draw, &rows, CovarianceType::Full).unwrap();
        assert_eq!(pack(&first), pack(&start(draw, &rows, CovarianceType::Full).unwrap()), "{draw:?}");
        let other = start(Draw { seed: 2, ..draw }, &rows, CovarianceType::Full).unwrap();
        assert_ne!(pack(&first), pack(&other), "{draw:?}");
        let pass = Pass { execution: Execution::Parallel, ..Pass::SEQUENTIAL };
        let together = draw.start(&names(2), &rows, &options(CovarianceType::Full), pass).unwrap();
        assert_eq!(pack(&first), pack(&together), "{draw:?}");
    }
}

#[test]
fn more_candidates_are_no_worse() {
    let rows = rows(600, 2, 8);
    for method in METHODS {
        let value = |n_init| {
            let draw = Draw { n_init: Some(n_init), ..draw(4, method) };
            assert_sound(&start(draw, &rows, CovarianceType::Full).unwrap(), &rows, 4)
        };
        let values = [2, 4, 8].map(value);
        assert!(values.is_sorted(), "{values:?}");
    }
}

#[test]
fn one_component_is_the_moments_of_the_sample() {
    let rows = whole_weights(rows(500, 2, 5));
    let total: f64 = rows.weight.iter().sum();
    let mean = |values: &Vec<f64>| values.iter().zip(&rows.weight).map(|(x, w)| x * w).sum::<f64>() / total;
    let means: Vec<f64> = rows.columns.iter().map(mean).collect();
    for draw in draws(1) {
        let model = start(draw, &rows, CovarianceType::Full).unwrap();
        assert_eq!(model.weights().to_vec(), [1.0]);
        assert_all_close(model.means(), &means, 1e-13);
        let product = |i: usize, j: usize| -> Vec<f64> {
            let pairs = rows.columns[i].iter().zip(&rows.columns[j]);
            pairs.map(|(x, y)| (x - means[i]) * (y - means[j])).collect()
        };
        for ((_, i, j), covariance) in model.covariances().indexed_iter() {
            assert_close(*covariance, mean(&product(i, j)), 1e-13);
        }
    }
}

#[test]
fn far_groups_are_found() {
    let mut rows = rows(1000, 2, 6);
    for (j, column) in rows.columns.iter_mut().enumerate() {
        column.iter_mut().enumerate().for_each(|(i, x)| *x += 1000.0 * ((j + 1) * i % 5) as f64);
    }
    for method in [Method::KMeansPlusPlus, Method::KMeans] {
        let model = start(draw(5, method), &rows, CovarianceType::Full).unwrap().sorted();
        assert_all_close(model.weights(), &[0.2; 5], 1e-14);
        let mut far = model.means().column(1).to_vec();
        far.sort_by(f64::total_cmp);
        for (c, m) in far.iter().enumerate() {
            assert!((m - 1000.0 * c as f64).abs() < 5.0, "{far:?}");
        }
    }
}

#[test]
fn a_large_sample_is_polished_on_its_rows_only() {
    // Four times the sample and more: a single candidate goes on for some iterations, on the sample.
    let (large, small) = (rows(10_000, 1, 5), rows(2000, 1, 5));
    let draw = Draw { n_init: Some(1), ..draw(3, Method::KMeansPlusPlus) };
    let drawn = |rows: &Sample| {
        let sample = sample(rows, sample_rows(3, 1), 1).sample;
        let scaled = Scaled::new(&sample);
        let (names, options) = (names(1).into(), options(CovarianceType::Full));
        let passes = passes(&sample, &options, Pass::SEQUENTIAL);
        let search = search(&names, &sample, &options, &passes);
        (draw.candidate(search, &scaled, 0, 0).unwrap(), sample)
    };
    let model = start(draw, &small, CovarianceType::Full).unwrap();
    assert!(model == drawn(&small).0 || small.weight.len() > 2048);
    let model = start(draw, &large, CovarianceType::Full).unwrap();
    let (candidate, sample) = drawn(&large);
    assert_eq!(sample.weight.len(), 2048);
    assert_eq!(model.training.n_rows, Some(2048));
    assert!(assert_sound(&model, &sample, 3) > assert_sound(&candidate, &sample, 3));
}

#[test]
fn constant_features_are_started_from() {
    for constant in [0.0, 0.1, 1e8] {
        let mut rows = rows(400, 3, 2);
        rows.columns[1].fill(constant);
        for kind in CovarianceType::ALL {
            for draw in draws(3) {
                let model = start(draw, &rows, kind).unwrap();
                assert_sound(&model, &rows, 3);
                for m in model.means().column(1) {
                    assert_close(*m, constant, 1e-15);
                }
            }
        }
        rows.columns.iter_mut().for_each(|column| column.fill(constant));
        for draw in draws(3) {
            assert_sound(&start(draw, &rows, CovarianceType::Full).unwrap(), &rows, 3);
        }
    }
}

#[test]
fn as_many_components_as_rows() {
    let rows = rows(7, 2, 3);
    for kind in CovarianceType::ALL {
        for draw in draws(7) {
            assert_sound(&start(draw, &rows, kind).unwrap(), &rows, 7);
        }
    }
    // Each drawn component is a row.
    let scaled = Scaled::new(&rows);
    let (draw, names, options) = (draw(7, Method::KMeans), names(2).into(), options(CovarianceType::Diag));
    let passes = passes(&rows, &options, Pass::SEQUENTIAL);
    let search = search(&names, &rows, &options, &passes);
    let model = draw.candidate(search, &scaled, 0, LLOYD).unwrap().sorted();
    let mut expected = rows.columns[0].clone();
    expected.sort_by(f64::total_cmp);
    assert_eq!(model.means().column(0).to_vec(), expected);
}

#[test]
fn fewer_distinct_rows_than_components() {
    let rows = Sample {
        columns: vec![[1.0, 1.0, 4.0, 4.0].repeat(20), [0.0, 0.0, 7.0, 7.0].repeat(20)],
        weight: vec![1.0; 80],
    };
    for kind in CovarianceType::ALL {
        for draw in draws(5) {
            let model = start(draw, &rows, kind).unwrap();
            assert_sound(&model, &rows, 5);
            if draw.method != Method::Random {
                for mean in model.means().outer_iter().zip(model.weights()).filter(|(_, w)| **w > 0.0) {
                    let near = |x: f64, y: f64| (mean.0[0] - x).abs() + (mean.0[1] - y).abs() < 1e-3;
                    assert!(near(1.0, 0.0) || near(4.0, 7.0), "{kind:?} {draw:?} {model:?}");
                }
            }
        }
    }
}

#[test]
fn fewer_rows_than_components_are_refused() {
    let mut few = rows(10, 2, 3);
    few.weight[4..].fill(0.0);
    few.columns[1][0] = f64::NAN;
    for draw in draws(4) {
        let refused = start(draw, &few, CovarianceType::Full);
        assert_eq!(refused, Err(Error::TooFewRows { k: 4, n_rows: 3 }));
    }
    assert!(start(draw(3, Method::KMeans), &few, CovarianceType::Full).is_ok());
    let none = rows(0, 2, 3);
    let refused = start(draw(1, Method::KMeans), &none, CovarianceType::Full);
    assert_eq!(refused, Err(Error::TooFewRows { k: 1, n_rows: 0 }));
}

#[test]
fn wide_rows_are_not_drawn_in_uncorrelated_axes() {
    let has_axes = |kind, n_rows, d| {
        let sample = Sample { columns: vec![vec![0.0; n_rows]; d], weight: vec![1.0; n_rows] };
        Metric::of(kind, 3, &sample).contains(&Metric::Whitened)
    };
    for kind in [CovarianceType::Full, CovarianceType::Tied] {
        assert!(has_axes(kind, 201, 200));
        assert!(!has_axes(kind, 200, 200));
    }
    for kind in [CovarianceType::Diag, CovarianceType::Spherical] {
        assert!(has_axes(kind, 201, 128));
        assert!(!has_axes(kind, 128, 128));
        assert!(!has_axes(kind, 201, 129));
    }
}

#[test]
fn labels_make_the_moments_of_their_groups() {
    let rows =
        Sample { columns: vec![vec![1.0, 3.0, 10.0, 14.0, 99.0]], weight: vec![1.0, 3.0, 1.0, 1.0, 9.0] };
    let given = |component: &[Option<u32>], k| {
        let labels = Labels { k, component };
        assigned(&names(1), &rows, &labels, &options(CovarianceType::Full), Pass::SEQUENTIAL)
    };
    let model = given(&[Some(1), Some(1), Some(0), Some(0), None], 2).unwrap();
    assert_eq!(model.weights().to_vec(), [2.0 / 6.0, 4.0 / 6.0]);
    assert_eq!(model.means().column(0).to_vec(), [12.0, 2.5]);
    assert_all_close(model.covariances(), &[4.0, 0.75], 1e-15);
    let empty = given(&[Some(0), Some(0), Some(2), Some(2), None], 3);
    assert_eq!(empty, Err(Error::EmptyStart { component: 1 }));
    assert_eq!(given(&[None; 5], 2), Err(Error::EmptyStart { component: 0 }));
    assert_eq!(given(&[Some(0); 5], 6), Err(Error::TooFewRows { k: 6, n_rows: 5 }));
}

#[test]
fn random_responsibilities_are_a_distribution_that_depends_on_the_row_alone() {
    let dirichlet = Dirichlet { k: 3, seed: 7 };
    let assigned = |start, len| {
        let mut block = Block::default();
        block.reset(len, 1, 3);
        dirichlet.assign(start, &mut block);
        block
    };
    let (whole, part) = (assigned(0, 2000), assigned(1500, 100));
    for i in 0..2000 {
        let row = [0, 1, 2].map(|c| whole.component(c)[i]);
        assert!(row.iter().all(|r| *r > 0.0) && (row.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
    for c in 0..3 {
        assert_eq!(part.component(c), &whole.component(c)[1500..1600]);
        let moment = |p| whole.component(c).iter().map(|r| r.powi(p)).sum::<f64>() / 2000.0;
        // Beta(1, 2) has mean 1/3 and second moment 1/6; six standard errors.
        assert!((moment(1) - 1.0 / 3.0).abs() < 0.032, "{}", moment(1));
        assert!((moment(2) - 1.0 / 6.0).abs() < 0.027, "{}", moment(2));
    }
}

#[test]
fn the_best_that_does_not_fail_is_taken() {
    let made = |value: f64, seed| Ok((value, model(CovarianceType::Diag, 2, 1, seed)));
    let failed = || Err(Error::NoWeight { total_weight: 0.0 });
    let found = best([failed(), made(-3.0, 1), made(-1.0, 2), failed(), made(-2.0, 3)].into_iter());
    assert_eq!(found, Ok((-1.0, model(CovarianceType::Diag, 2, 1, 2))));
    let first = best([made(-1.0, 1), made(-1.0, 2)].into_iter());
    assert_eq!(first, Ok((-1.0, model(CovarianceType::Diag, 2, 1, 1))));
    assert_eq!(best([failed(), failed()].into_iter()), Err(Error::NoWeight { total_weight: 0.0 }));
    assert_eq!(best([made(1.0, 1), Err(Error::Interrupted)].into_iter()), Err(Error::Interrupted));
}

#[test]
fn a_start_stops_when_asked() {
    let pass = Pass { cancelled: &AtomicBool::new(true), ..Pass::SEQUENTIAL };
    for draw in draws(2) {
        let stopped = draw.start(&names(2), &rows(100, 2, 1), &options(CovarianceType::Full), pass);
        assert_eq!(stopped, Err(Error::Interrupted));
    }
}

/// Three groups in a row; of the outer two some rows are known, numbered against their order.
fn partly_known() -> (Sample, Vec<Option<u32>>) {
    let mut rows = rows(600, 1, 4);
    rows.columns[0].iter_mut().enumerate().for_each(|(i, x)| *x = 0.1 * *x + 4.0 * (i % 3) as f64);
    let label = (0..600).map(|i| match (i % 3, i < 60) {
        (0, true) => Some(2),
        (2, true) => Some(0),
        _ => None,
    });
    (rows, label.collect())
}

#[test]
fn known_rows_keep_their_component() {
    let (rows, label) = partly_known();
    let labelled = Labelled { rows: &rows, label: &label };
    for kind in CovarianceType::ALL {
        for n_init in [None, Some(1), Some(3)] {
            let draw = Draw { n_init, ..draw(3, Method::KMeansPlusPlus) };
            let start = draw.start(&names(1), &labelled, &options(kind), Pass::SEQUENTIAL).unwrap();
            let mut em = Em::new(start, options(kind), false);
            em.run(&labelled, Pass::SEQUENTIAL, None).unwrap();
            let model = em.model().unwrap();
            let means = model.means().column(0).to_vec();
            assert!(means[0] > means[1] && means[1] > means[2], "{kind:?} {means:?}");
            let mut block = Block::default();
            block.load(&labelled, 0, 600, 3);
            model.density().unwrap().responsibilities(&mut block);
            for (i, known) in label.iter().enumerate() {
                if let Some(c) = known {
                    assert_eq!(block.component(*c as usize)[i], 1.0);
                }
            }
        }
    }
}

#[test]
fn a_label_changes_the_density_of_its_row_to_the_joint_one() {
    let (rows, label) = partly_known();
    let density = model(CovarianceType::Full, 3, 1, 1).density().unwrap();
    let (mut free, mut known) = (Block::default(), Block::default());
    free.load(&rows, 0, 600, 3);
    known.load(&Labelled { rows: &rows, label: &label }, 0, 600, 3);
    density.responsibilities(&mut free);
    density.responsibilities(&mut known);
    for (i, label) in label.iter().enumerate() {
        let expected = match label {
            Some(c) => free.log_density()[i] + free.component(*c as usize)[i].ln(),
            None => free.log_density()[i],
        };
        assert_close(known.log_density()[i], expected, 1e-9);
    }
}

/// Two groups of 60 rows, and one row so far off that a component of its own raises the likelihood as far as the floor
/// lets it.
fn with_an_outlier() -> Sample {
    let mut rows = rows(121, 2, 4);
    rows.columns[0].iter_mut().enumerate().for_each(|(i, x)| *x = 0.3 * *x + 6.0 * (i % 2) as f64);
    (rows.columns[0][120], rows.columns[1][120]) = (9.0, 9.0);
    rows
}

#[test]
fn a_component_on_a_single_row_is_no_gain() {
    let rows = with_an_outlier();
    let (names, options) = (names(2).into(), options(CovarianceType::Full));
    let passes = passes(&rows, &options, Pass::SEQUENTIAL);
    let search = search(&names, &rows, &options, &passes);
    let evaluated = |component: &dyn Fn(usize) -> u32| {
        let component: Vec<Option<u32>> = (0..121).map(|i| Some(component(i))).collect();
        let model = search.assigned(&Labels { k: 3, component: &component }).unwrap();
        search.improve(model, 0).unwrap()
    };
    let spike = evaluated(&|i| if i == 120 { 2 } else { (i % 2) as u32 });
    let sound = evaluated(&|i| [0, 1, 2, 1][i % 4]);
    assert!(spike.0 > sound.0, "{} {}", spike.0, sound.0);
    let judged = collapse::soundest(search, [Ok(spike.clone()), Ok(sound.clone())].into_iter()).unwrap();
    assert_eq!((judged.lost.len(), judged.candidate), (0, sound));
    let alone = collapse::soundest(search, [Ok(spike.clone())].into_iter()).unwrap();
    assert_eq!((alone.lost.len(), &alone.candidate), (1, &spike));
    for seed in 0..10 {
        let model =
            start(Draw { seed, ..draw(3, Method::KMeansPlusPlus) }, &rows, CovarianceType::Full).unwrap();
        let judged = collapse::Judged::new(search, (0.0, model)).unwrap();
        assert_eq!(judged.lost, [0; 0], "{seed}");
    }
}

#[test]
fn candidates_that_come_to_one_place_end_once() {
    let mut rows = rows(600, 2, 6);
    rows.columns[0].iter_mut().enumerate().for_each(|(i, x)| *x += 50.0 * (i % 3) as f64);
    let (names, options) = (names(2).into(), options(CovarianceType::Full));
    let passes = passes(&rows, &options, Pass::SEQUENTIAL);
    let search = search(&names, &rows, &options, &passes);
    let label = |shift: usize| -> Vec<Option<u32>> {
        (0..600).map(|i| Some(((i + usize::from(i % (7 + shift) == 0)) % 3) as u32)).collect()
    };
    let started = |shift| search.assigned(&Labels { k: 3, component: &label(shift) });
    let ends = race::race(search, (0..8).map(started).collect(), effort(3, false)).unwrap();
    assert_eq!(ends.len(), 1);
    for w in ends[0].1.weights() {
        assert_close(*w, 1.0 / 3.0, 1e-12);
    }
}

#[test]
fn large_models_are_started_from_with_the_same_bits_on_all_threads() {
    let d = 75;
    let mut rows = rows(700, d, 3);
    rows.columns[4].iter_mut().enumerate().for_each(|(i, x)| *x += 30.0 * (i % 3) as f64);
    let kind = CovarianceType::Full;
    assert!(3 * kind.structure().scatter().covariance_len(d) > LARGE);
    for n_init in [None, Some(2)] {
        let draw = Draw { n_init, ..draw(3, Method::KMeansPlusPlus) };
        let alone = start(draw, &rows, kind).unwrap();
        assert_sound(&alone, &rows, 3);
        let pass = Pass { execution: Execution::Parallel, ..Pass::SEQUENTIAL };
        let together = draw.start(&names(d), &rows, &options(kind), pass).unwrap();
        assert_eq!(pack(&alone), pack(&together));
    }
}

#[test]
fn a_trial_that_cannot_succeed_is_given_up() {
    let rows = rows(500, 2, 8);
    let (names, options) = (names(2).into(), Options { tol: 0.0, ..options(CovarianceType::Full) });
    let passes = passes(&rows, &options, Pass::SEQUENTIAL);
    let search = search(&names, &rows, &options, &passes);
    let model =
        || start(Draw { n_init: Some(1), ..draw(4, Method::KMeansPlusPlus) }, &rows, CovarianceType::Full);
    let iterations = |above: f64| {
        let (_, model) = split_merge::trial(search, model().unwrap(), above).unwrap();
        model.training.n_iter.unwrap()
    };
    assert!(iterations(f64::INFINITY) < 10);
    assert!(iterations(f64::NEG_INFINITY) >= 39);
}

#[test]
fn finalists_end_at_different_optima() {
    let rows = rows(300, 2, 8);
    let (names, options) = (names(2).into(), options(CovarianceType::Spherical));
    let passes = passes(&rows, &options, Pass::SEQUENTIAL);
    let search = search(&names, &rows, &options, &passes);
    let scaled = Scaled::new(&rows);
    let drawn = |i| draw(5, Method::KMeansPlusPlus).candidate(search, &scaled, i, 0);
    // Each candidate comes twice.
    let winners = race::race(search, (0..16).map(|i| drawn(i / 2)).collect(), effort(3, false)).unwrap();
    assert!(winners.len() > 1);
    for (n, (a, _)) in winners.iter().enumerate() {
        for (b, _) in &winners[..n] {
            assert!((a - b).abs() > race::SAME * 300.0, "{a} {b}");
        }
    }
}
