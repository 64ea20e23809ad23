//! Property tests of the mathematics on hostile numbers, shapes, bytes and texts.
//!
//! Whatever comes, there is a result or a sentence: no panic, no memory beyond a multiple of the input. What is
//! accepted is finite and keeps every bit on its way through the formats. The environment variable `FUZZ_CASES`
//! sets the number of cases of each property; the seed is fixed. Memory is counted by the allocator, so that this runs
//! without the plugin, which brings one of its own.

#![cfg(not(feature = "plugin"))]
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ndarray::{Array1, Array2, Array3};
use polars_gmm::mixture::covariance::Floor;
use polars_gmm::mixture::linalg::triangle;
use polars_gmm::mixture::rows::{RowState, Sample};
use polars_gmm::mixture::statistics::Scatter;
use polars_gmm::mixture::{
    codec, Block, CovarianceType, Error, Execution, Model, Pass, Statistics, Training,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use serde_json::{json, Value};

// -- memory ------------------------------------------------------------------------------------

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which keeps account of each thread's bytes.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn account(bytes: isize) {
    let live = LIVE.get().saturating_add(bytes);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

/// Bytes of a layout; no allocation is larger than `isize::MAX`.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(signed(layout.size()));
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        account(-signed(layout.size()));
        System.dealloc(at, layout);
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        account(signed(size) - signed(layout.size()));
        System.realloc(at, layout, size)
    }
}

/// What `work` gives, and the most memory it held at a time.
fn peak<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get().saturating_sub(before).max(0).unsigned_abs())
}

/// Decodes `input` within memory in proportion to its length.
fn bounded<R>(input: usize, decode: impl FnOnce() -> R) -> R {
    let (result, peak) = peak(decode);
    // The decoders reserve up to a megabyte for a sequence before they see its elements.
    assert!(peak <= (8 << 20) + 256 * input, "{peak} bytes for an input of {input}");
    result
}

// -- numbers -----------------------------------------------------------------------------------

const EDGES: [f64; 26] = [
    0.0,
    -0.0,
    5e-324,
    1.1e-310,
    f64::MIN_POSITIVE,
    1e-300,
    1e-200,
    1e-150,
    1e-12,
    -1e-12,
    f64::EPSILON,
    0.5,
    1.0,
    -1.0,
    1e8,
    -1e8,
    1e12,
    1e150,
    -1e150,
    1e200,
    1e300,
    1e308,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NAN,
];

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -9.0..9.0,
        4 => select(EDGES.to_vec()),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

fn finite() -> impl Strategy<Value = f64> {
    number().prop_map(|x| if x.is_finite() { x } else { 3.0 })
}

fn positive() -> impl Strategy<Value = f64> {
    finite().prop_map(f64::abs)
}

/// Features of these magnitudes are promised to work.
fn scale() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1.0), (-150..=150_i32).prop_map(|e| 10_f64.powi(e))]
}

/// What is written down as a number of hostile inputs: mostly finite ones, so that some are accepted.
fn numbers(len: usize) -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![3 => vec(finite(), len), 1 => vec(number(), len)]
}

fn kind() -> impl Strategy<Value = CovarianceType> {
    select(CovarianceType::ALL.to_vec())
}

fn names(d: usize) -> Vec<String> {
    (0..d).map(|j| format!("x{j}")).collect()
}

/// `A Aᵀ + ½ I` in units of `scale`: far from singular, whatever the units.
fn definite(d: usize) -> impl Strategy<Value = Vec<f64>> {
    (vec(-1.0..1.0, d * d), vec(scale(), d)).prop_map(move |(a, scale)| {
        let entry = |i: usize, j: usize| {
            let product: f64 = (0..d).map(|t| a[i * d + t] * a[j * d + t]).sum();
            (product + if i == j { 0.5 } else { 0.0 }) * scale[i] * scale[j]
        };
        (0..d * d).map(|e| entry(e / d, e % d)).collect()
    })
}

/// A model that can be evaluated, of hostile means and units.
fn model() -> impl Strategy<Value = Model> {
    (kind(), 1..4_usize, select(vec![1, 2, 3, 5, 9])).prop_flat_map(|(kind, k, d)| {
        let mean = finite().prop_map(|x| x.clamp(-1e150, 1e150));
        let variance = (0.1..3.0, scale()).prop_map(|(v, s)| v * s * s);
        let mass = prop_oneof![4 => 0.0..1.0, 1 => Just(0.0)];
        (vec(mass, k), vec(mean, k * d), vec(definite(d), k), vec(variance, k * d)).prop_map(
            move |(mass, means, matrices, variances)| {
                let shape = kind.structure().shape(k, d);
                let flat = if shape.1 == d { matrices.concat() } else { variances };
                let mut values = flat.into_iter();
                let covariances = Array3::from_shape_simple_fn(shape, || values.next().unwrap());
                let total = mass.iter().sum::<f64>() + 1.0;
                let mut weights: Array1<f64> = mass.iter().map(|w| w / total).collect();
                weights[0] += 1.0 / total;
                let means = Array2::from_shape_vec((k, d), means).unwrap();
                Model::new(names(d), kind, weights, means, covariances).unwrap()
            },
        )
    })
}

fn bits<'a>(values: impl IntoIterator<Item = &'a f64>) -> Vec<u64> {
    values.into_iter().map(|v| v.to_bits()).collect()
}

fn parameters(model: &Model) -> Vec<u64> {
    bits(model.weights().iter().chain(model.means()).chain(model.covariances()))
}

/// What every accepted model keeps.
fn check_model(model: &Model) -> Result<(), TestCaseError> {
    let training = model.training;
    let figures = [training.log_likelihood, training.entropy, training.total_weight];
    let values = model.weights().iter().chain(model.means()).chain(model.covariances());
    prop_assert!(values.chain(figures.iter().flatten()).all(|v| v.is_finite()));
    prop_assert!((model.weights().sum() - 1.0).abs() < 1e-5);
    let (k, d) = (model.k(), model.d());
    prop_assert_eq!(model.covariances().dim(), model.covariance_type().structure().shape(k, d));
    for copy in [codec::unpack(&codec::pack(model)), codec::from_json(&codec::to_json(model))] {
        let copy = copy.unwrap();
        prop_assert_eq!(&copy, model);
        prop_assert_eq!(parameters(&copy), parameters(model));
    }
    let full = model.full_covariances();
    prop_assert_eq!(full.dim(), (k, d, d));
    prop_assert_eq!(&Model::compact(model.covariance_type(), &full).unwrap(), model.covariances());
    let order: Vec<usize> = (0..d).rev().collect();
    let turned = |m: &Model| {
        let names: Vec<String> = m.features().iter().rev().cloned().collect();
        m.reordered(&names, &order)
    };
    prop_assert_eq!(&turned(&turned(model)), model);
    prop_assert_eq!(model.sorted().sorted(), model.sorted());
    prop_assert!(model.n_parameters() >= k * d + k - 1);
    Ok(())
}

/// A number of cases that suits a run of all tests; the failing case is printed, and the seed fixed.
fn config() -> ProptestConfig {
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200);
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

// -- statistics --------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Parts {
    shape: (usize, usize, Scatter),
    weight: Vec<f64>,
    mean: Vec<f64>,
    scatter: Vec<f64>,
}

impl Parts {
    fn statistics(self) -> Result<Statistics, Error> {
        Statistics::from_parts(self.shape, self.weight, self.mean, self.scatter)
    }
}

fn shape() -> impl Strategy<Value = (usize, usize, Scatter)> {
    (1..4_usize, select(vec![1, 2, 3, 9, 12]), select(vec![Scatter::Full, Scatter::Diagonal]))
}

/// Parts of any kind, some of the wrong length.
fn parts() -> impl Strategy<Value = Parts> {
    let longer = prop_oneof![9 => Just(0), 1 => 1..3_usize];
    (shape(), longer).prop_flat_map(|(shape, longer)| {
        let (k, d, form) = shape;
        (numbers(k + longer), numbers(k * d), numbers(k * form.len(d)))
            .prop_map(move |(weight, mean, scatter)| Parts { shape, weight, mean, scatter })
    })
}

/// Statistics of hostile numbers; the scatter is that of no rows.
fn wild(shape: (usize, usize, Scatter)) -> impl Strategy<Value = Statistics> {
    let (k, d, form) = shape;
    (vec(positive(), k), vec(finite(), k * d), vec(finite(), k * form.len(d))).prop_map(
        move |(weight, mean, mut scatter)| {
            for (e, s) in scatter.iter_mut().enumerate() {
                let on_diagonal = |j: usize| e % form.len(d) == triangle(j) + j;
                if form == Scatter::Diagonal || (0..d).any(on_diagonal) {
                    *s = s.abs();
                }
            }
            let mut statistics = Statistics::from_parts(shape, weight, mean, scatter).unwrap();
            statistics.total_weight = statistics.weight().iter().sum();
            statistics
        },
    )
}

/// Statistics as rows could have them, in any units; perhaps with components of no weight.
fn plausible(shape: (usize, usize, Scatter)) -> impl Strategy<Value = Statistics> {
    let (k, d, form) = shape;
    let mass = prop_oneof![3 => 1e-3..1e3, 1 => Just(0.0)];
    (vec(mass, k), vec(-9.0..9.0, k * d), vec(vec(-1.0..1.0, d * d), k), vec(scale(), d), 0..=d).prop_map(
        move |(mut weight, mean, roots, scale, rank)| {
            weight[0] += 1.0;
            let mut scatter = Vec::new();
            for (a, w) in roots.iter().zip(&weight) {
                let entry = |i: usize, j: usize| {
                    let product: f64 = (0..rank).map(|t| a[i * d + t] * a[j * d + t]).sum();
                    w * product * scale[i] * scale[j]
                };
                match form {
                    Scatter::Full => scatter
                        .extend((0..d).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| entry(i, j))),
                    Scatter::Diagonal => scatter.extend((0..d).map(|j| entry(j, j))),
                }
            }
            let mean = mean.iter().enumerate().map(|(e, m)| m * scale[e % d]).collect();
            let mut statistics = Statistics::from_parts(shape, weight, mean, scatter).unwrap();
            statistics.total_weight = statistics.weight().iter().sum();
            statistics
        },
    )
}

fn floor() -> impl Strategy<Value = f64> {
    select(vec![0.0, 5e-324, 1e-12, 1e-6, 0.5, 0.999])
}

fn diagonal(statistics: &Statistics) -> Vec<f64> {
    let entries = |c| (0..statistics.d()).map(move |j| (c, j));
    (0..statistics.k()).flat_map(entries).map(|(c, j)| statistics.scatter_entry(c, j, j)).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn parts_are_refused_or_kept(parts in parts()) {
        let kept = parts.clone();
        if let Ok(statistics) = parts.statistics() {
            prop_assert_eq!(bits(statistics.weight()), bits(&kept.weight));
            prop_assert_eq!(bits(statistics.mean()), bits(&kept.mean));
            prop_assert_eq!(bits(statistics.scatter()), bits(&kept.scatter));
            let values = kept.weight.iter().chain(&kept.mean).chain(&kept.scatter);
            prop_assert!(values.into_iter().all(|v| v.is_finite()));
            prop_assert!(kept.weight.iter().chain(&diagonal(&statistics)).all(|v| *v >= 0.0));
        }
    }

    #[test]
    fn merged_statistics_add_up((a, b) in shape().prop_flat_map(|shape| (wild(shape), wild(shape)))) {
        let mut sum = a.clone();
        sum.merge(&b);
        for ((w, x), y) in sum.weight().iter().zip(a.weight()).zip(b.weight()) {
            prop_assert_eq!(*w, x + y);
        }
        // A variance is infinite or a number where the difference of two means overflows; it is never negative.
        prop_assert!(!diagonal(&sum).iter().any(|s| *s < 0.0));
        let form = a.scatter_form();
        let mut alone = Statistics::new(a.k(), a.d(), form);
        alone.merge(&a);
        let mut with_nothing = a.clone();
        with_nothing.merge(&Statistics::new(a.k(), a.d(), form));
        prop_assert_eq!(bits(with_nothing.mean()), bits(a.mean()));
        prop_assert_eq!(bits(with_nothing.scatter()), bits(a.scatter()));
        for c in (0..a.k()).filter(|c| a.weight()[*c] > 0.0) {
            let means = c * a.d()..(c + 1) * a.d();
            prop_assert_eq!(bits(&alone.mean()[means.clone()]), bits(&a.mean()[means]));
        }
    }

    #[test]
    fn the_m_step_on_hostile_statistics(statistics in shape().prop_flat_map(wild), kind in kind(), floor in floor()) {
        let features = names(statistics.d());
        if let Ok(model) = Model::maximize(&features, kind, &statistics, floor, None) {
            check_model(&model)?;
            let (weights, means) = (model.weights().clone(), model.means().clone());
            let again = Model::new(features, kind, weights, means, model.covariances().clone());
            prop_assert!(again.is_ok(), "{:?}", again);
            let _ = model.density();
        }
    }

    #[test]
    fn the_m_step_on_plausible_statistics(
        statistics in shape().prop_flat_map(plausible),
        kind in kind(),
        floor in select(vec![1e-9, 1e-6, 1e-2]),
    ) {
        let features = names(statistics.d());
        match Model::maximize(&features, kind, &statistics, floor, None) {
            Ok(model) => {
                check_model(&model)?;
                prop_assert!(model.density().is_ok(), "{:?}", model.density());
            }
            Err(error) => {
                let covariance_type = kind.structure().name();
                prop_assert_eq!(error, Error::DiagonalScatter { covariance_type });
            }
        }
    }

    #[test]
    fn floors_are_kept(statistics in shape().prop_flat_map(plausible), kind in kind()) {
        if let Ok(free) = kind.maximize(&statistics, &Floor::new(&statistics, 0.0)) {
            let clipped = kind.maximize(&statistics, &Floor::new(&statistics, 1e-3)).unwrap();
            prop_assert_eq!(free.dim(), clipped.dim());
            let columns = free.dim().2;
            for ((c, i, j), x) in free.indexed_iter() {
                if i == j || free.dim().1 != columns {
                    prop_assert!(clipped[[c, i, j]] >= x * (1.0 - 1e-9), "{} {}", x, clipped[[c, i, j]]);
                }
            }
        }
    }
}

// -- rows --------------------------------------------------------------------------------------

/// A model and rows for it, most of them ordinary.
fn scored() -> impl Strategy<Value = (Model, Sample)> {
    (model(), 0..150_usize).prop_flat_map(|(model, n)| {
        let weight = prop_oneof![3 => Just(1.0), 1 => positive().prop_map(|w| w.min(1e300))];
        let columns = vec(vec(number(), n), model.d());
        let sample = (columns, vec(weight, n)).prop_map(|(columns, weight)| Sample { columns, weight });
        (Just(model), sample)
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn densities_of_hostile_rows((model, rows) in scored()) {
        let density = model.density().unwrap();
        let (n, k) = (rows.weight.len(), model.k());
        let mut block = Block::default();
        block.load(&rows, 0, n, k);
        density.responsibilities(&mut block);
        let mut logs = Block::default();
        logs.load(&rows, 0, n, k);
        density.log_responsibilities(&mut logs);
        for i in 0..n {
            let valid = rows.columns.iter().all(|column| column[i].is_finite());
            prop_assert_eq!(block.state()[i], if valid { RowState::Valid } else { RowState::NotFinite });
            let shares: Vec<f64> = (0..k).map(|c| block.component(c)[i]).collect();
            prop_assert!(block.log_density()[i].is_finite());
            prop_assert!(shares.iter().all(|r| (0.0..=1.0 + 1e-12).contains(r)), "{:?}", shares);
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{:?}", shares);
            prop_assert_eq!(block.log_density()[i], logs.log_density()[i]);
            for (c, r) in shares.iter().enumerate() {
                prop_assert!(model.weights()[c] > 0.0 || *r == 0.0, "{:?}", shares);
                let log = logs.component(c)[i];
                prop_assert!((log.exp() - r).abs() < 1e-12, "{} {}", log, r);
            }
        }
    }

    #[test]
    fn statistics_of_hostile_rows((model, rows) in scored(), kind in kind()) {
        let density = model.density().unwrap();
        let form = model.covariance_type().structure().scatter();
        let statistics = Pass::SEQUENTIAL.e_step(&rows, &density, form).unwrap();
        let pass = Pass { execution: Execution::Parallel, ..Pass::SEQUENTIAL };
        let together = pass.e_step(&rows, &density, form).unwrap();
        prop_assert_eq!(postcard::to_stdvec(&together), postcard::to_stdvec(&statistics));
        let valid = |i: &usize| rows.columns.iter().all(|column| column[*i].is_finite());
        let counted: Vec<usize> = (0..rows.weight.len()).filter(valid).filter(|i| rows.weight[*i] > 0.0).collect();
        let total: f64 = counted.iter().map(|i| rows.weight[*i]).sum();
        prop_assert_eq!(statistics.n_rows, counted.len() as u64);
        prop_assert!((statistics.total_weight - total).abs() <= 1e-12 * total);
        let shares: f64 = statistics.weight().iter().sum();
        prop_assert!((shares - total).abs() <= 1e-9 * total, "{} {}", shares, total);
        prop_assert!(!statistics.log_likelihood.is_nan() && !statistics.entropy.is_nan());
        prop_assert!(!diagonal(&statistics).iter().any(|s| *s < 0.0));
        if let Ok(next) = Model::maximize(model.features(), kind, &statistics, 1e-6, Some(&model)) {
            check_model(&next)?;
            let _ = next.density();
        }
    }
}

// -- models ------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arrays_of_any_shape_are_refused_or_a_model(
        (kind, k, d) in (kind(), 0..4_usize, 0..4_usize),
        (more_means, more_covariances) in (prop_oneof![9 => Just(0), 1 => 1..2_usize], prop_oneof![9 => Just(0), 1 => 1..2_usize]),
        pool in numbers(80),
        tame in any::<bool>(),
    ) {
        let mut next = pool.into_iter().cycle();
        let mut next = move || next.next().unwrap();
        let weights: Array1<f64> = (0..k).map(|_| if tame { 1.0 / k as f64 } else { next() }).collect();
        let means = Array2::from_shape_simple_fn((k, d + more_means), &mut next);
        let (planes, rows, columns) = kind.structure().shape(k, d);
        let mut covariances = Array3::from_shape_simple_fn((planes + more_covariances, rows, columns), &mut next);
        if tame && rows == columns {
            for (c, i, j) in ndarray::indices(covariances.dim()) {
                covariances[[c, i, j]] = covariances[[c, i.max(j), i.min(j)]];
            }
        }
        if let Ok(model) = Model::new(names(d), kind, weights, means, covariances) {
            check_model(&model)?;
            for (row, column) in (0..d).flat_map(|i| (0..i).map(move |j| (i, j))) {
                let full = model.full_covariances();
                for matrix in full.outer_iter() {
                    let unit = matrix[[row, row]].abs().sqrt() * matrix[[column, column]].abs().sqrt();
                    let (a, b) = (matrix[[row, column]], matrix[[column, row]]);
                    prop_assert!(a == b || (a - b).abs() <= 1.1e-8 * unit, "{} {} in units of {}", a, b, unit);
                }
            }
            let _ = model.density();
        }
    }

    #[test]
    fn figures_of_a_fit_are_finite(model in model(), figures in numbers(3), n in any::<u64>()) {
        let training = Training {
            log_likelihood: Some(figures[0]),
            entropy: Some(figures[1]),
            n_rows: Some(n),
            total_weight: Some(figures[2]),
            n_iter: Some(n as u32),
            converged: Some(n % 2 == 0),
        };
        if let Ok(model) = model.with_training(training) {
            check_model(&model)?;
        }
    }
}

// -- bytes and texts ---------------------------------------------------------------------------

/// A change of some bytes. Places are taken modulo the length.
#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Truncate(usize),
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let range = |at: usize, n: usize| at % (len + 1)..(at % (len + 1) + n).min(len);
        match self {
            Self::Set(at, byte) => bytes[range(at, 1)].fill(byte),
            Self::Insert(at, new) => drop(bytes.splice(range(at, 0), new)),
            Self::Remove(at, n) => drop(bytes.drain(range(at, n))),
            Self::Repeat(at, n) => {
                let piece = bytes[range(at, n)].to_vec();
                drop(bytes.splice(range(at, 0), piece));
            }
            Self::Truncate(at) => bytes.truncate(range(at, 0).start),
        }
    }
}

/// Lengths that lie: `2^60` and the like, as the format writes them, and varints that never end.
fn giant() -> impl Strategy<Value = Vec<u8>> {
    let varint = |n: u64| postcard::to_stdvec(&n).unwrap();
    prop_oneof![
        (20..64_u32, -1..2_i64).prop_map(move |(e, off)| varint((1_u64 << e).wrapping_add_signed(off))),
        (1..14_usize).prop_map(|n| vec![0xff; n]),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0..2000_usize;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, new)| Damage::Insert(at, new)),
        (at(), giant()).prop_map(|(at, new)| Damage::Insert(at, new)),
        (0..40_usize, giant()).prop_map(|(at, new)| Damage::Insert(at, new)),
        (at(), 1..40_usize).prop_map(|(at, n)| Damage::Remove(at, n)),
        (at(), 1..40_usize).prop_map(|(at, n)| Damage::Repeat(at, n)),
        at().prop_map(Damage::Truncate),
    ]
}

fn damaged(bytes: Vec<u8>, damages: Vec<Damage>) -> Vec<u8> {
    damages.into_iter().fold(bytes, |mut bytes, damage| {
        damage.apply(&mut bytes);
        bytes
    })
}

/// The bytes of a packed model up to its features.
fn header() -> Vec<u8> {
    codec::pack(
        &Model::new(
            names(1),
            CovarianceType::Full,
            Array1::ones(1),
            Array2::zeros((1, 1)),
            Array3::ones((1, 1, 1)),
        )
        .unwrap(),
    )[..5]
        .to_vec()
}

fn check_bytes(bytes: &[u8]) -> Result<(), TestCaseError> {
    match bounded(bytes.len(), || codec::unpack(bytes)) {
        Ok(model) => check_model(&model),
        Err(error) => {
            prop_assert!(error.to_string().len() < 400 + 8 * bytes.len(), "{}", error);
            Ok(())
        }
    }
}

fn check_text(text: &str) -> Result<(), TestCaseError> {
    match bounded(text.len(), || codec::from_json(text)) {
        Ok(model) => check_model(&model),
        Err(_) => Ok(()),
    }
}

const TOKENS: [&str; 22] = [
    "",
    "null",
    "[",
    "]",
    "{",
    "}",
    "\"",
    ",",
    ":",
    "1e999",
    "-1e-999",
    "1e308",
    "5e-324",
    "-0",
    "NaN",
    "Infinity",
    "true",
    "18446744073709551616",
    "[[[[]]]]",
    "\\ud800",
    "\u{0}",
    "{\"$serde_json::private::Number\":\"1\"}",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        finite().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        select(TOKENS.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 0..4).prop_map(Value::from),
            1 => vec((select(vec!["x", "format", "version", "means"]), inner), 0..3)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()),
        ]
    })
}

const KEYS: [&str; 8] =
    ["format", "version", "features", "covariance_type", "weights", "means", "covariances", "training"];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        check_bytes(&bytes)?;
        check_bytes(&[header(), bytes].concat())?;
    }

    #[test]
    fn damaged_bytes(model in model(), damages in vec(damage(), 1..4)) {
        check_bytes(&damaged(codec::pack(&model), damages))?;
    }

    #[test]
    fn random_texts(text in "\\PC{0,80}", value in any_json()) {
        check_text(&text)?;
        check_text(&value.to_string())?;
    }

    #[test]
    fn damaged_texts(
        model in model(),
        cuts in vec((0..4000_usize, 0..12_usize, select(TOKENS.to_vec())), 1..3),
        damages in vec(damage(), 0..2),
    ) {
        let mut text = codec::to_json(&model);
        for (at, n, token) in cuts {
            let start = at % text.len();
            let end = (start + n).min(text.len());
            text.replace_range(start..end, token);
            check_text(&text)?;
            text.push(' ');
        }
        check_text(&String::from_utf8_lossy(&damaged(text.into_bytes(), damages)))?;
    }

    #[test]
    fn texts_of_other_values(model in model(), fields in vec((select(KEYS.to_vec()), any_json()), 1..3)) {
        let mut document: Value = serde_json::from_str(&codec::to_json(&model)).unwrap();
        for (name, value) in fields {
            document[name] = value;
            check_text(&document.to_string())?;
        }
    }
}

#[test]
fn lengths_that_lie_cost_no_memory() {
    // Features, and the weights after a feature, its name, the type and two weights.
    let one_feature = [1, 1, b'x', 0];
    for prefix in [&[][..], &[1], &one_feature, &[&one_feature[..], &[0]].concat()] {
        for exponent in [20, 32, 40, 60, 63] {
            let length = postcard::to_stdvec(&(1_u64 << exponent)).unwrap();
            let bytes = [header(), prefix.to_vec(), length].concat();
            assert!(bytes.len() <= 20);
            let (result, peak) = peak(|| codec::unpack(&bytes));
            assert!(matches!(result, Err(Error::Decode { .. })), "{result:?}");
            assert!(peak <= 2 << 20, "{peak} bytes for a length of 2^{exponent}");
        }
    }
}

#[test]
fn the_account_of_memory_counts() {
    let ((), peak) = peak(|| {
        drop(vec![0_u8; 3 << 20]);
        drop(vec![0_u8; 1 << 20]);
    });
    let expected = if cfg!(feature = "plugin") { 0 } else { 3 << 20 };
    assert!((expected..expected + 4096).contains(&peak), "{peak}");
}

#[test]
fn nesting_without_end_is_refused() {
    for (open, depth) in [("[", 100_000), ("{\"a\":", 100_000), ("[", 200)] {
        let text = open.repeat(depth);
        assert!(matches!(bounded(text.len(), || codec::from_json(&text)), Err(Error::Decode { .. })));
        let inside = json!({"format": "gaussian mixture", "version": 1, "means": 0}).to_string();
        let text = inside.replace(":0", &format!(":{text}"));
        assert!(matches!(bounded(text.len(), || codec::from_json(&text)), Err(Error::Decode { .. })));
    }
}
