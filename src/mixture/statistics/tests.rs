use super::*;
use crate::mixture::covariance::CovarianceType;
use crate::mixture::model::Model;
use crate::mixture::pass::{Pass, Passes};
use crate::mixture::rows::{Block, Labels, Responsibilities, Rows, Sample};
use crate::mixture::shapes::products;
use crate::mixture::simd::Level;
use crate::mixture::testing::{assert_all_close, assert_close, bits, loaded, model, sample, whole_weights};

/// An E-step's block over rows some of which weigh nothing.
fn block(sample: &Sample, k: usize) -> Block {
    let mut block = loaded(sample, k);
    let density = model(CovarianceType::Full, k, sample.columns.len(), 4).density().unwrap();
    density.responsibilities(&mut block);
    block
}

/// Guesses of each mean.
fn guess(about: &[f64]) -> Guess<'_> {
    Guess { means: about.into(), origin: None, by_row: false }
}

/// Statistics of one block.
fn of_block(block: &mut Block, about: &[f64], form: Scatter) -> Statistics {
    let mut accumulator = Accumulator::new(block.k(), block.d(), form);
    let feed = |accumulator: &mut Accumulator| {
        accumulator.absorb(block);
        Ok::<(), Error>(())
    };
    Statistics::of(&mut accumulator, &guess(about), feed).unwrap()
}

/// Weights, means and whole scatter of a block by two plain passes over its rows.
fn two_passes(block: &Block) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let d = block.d();
    let (mut weight, mut mean, mut scatter) = (vec![], vec![], vec![]);
    for c in 0..block.k() {
        let share = |i: usize| block.weight()[i] * block.component(c)[i];
        let total: f64 = (0..block.len()).map(share).sum();
        let mean_of = |j: usize| {
            let x = block.feature(j);
            let rough = (0..block.len()).map(|i| share(i) * x[i]).sum::<f64>() / total;
            rough + (0..block.len()).map(|i| share(i) * (x[i] - rough)).sum::<f64>() / total
        };
        let m: Vec<f64> = (0..d).map(mean_of).collect();
        for i in 0..d {
            for j in 0..=i {
                let (x, y) = (block.feature(i), block.feature(j));
                let product = |r: usize| share(r) * (x[r] - m[i]) * (y[r] - m[j]);
                scatter.push((0..block.len()).map(product).sum::<f64>());
            }
        }
        weight.push(total);
        mean.extend(m);
    }
    (weight, mean, scatter)
}

/// Compares means in units of deviations, scatter in units of those of its diagonal.
#[track_caller]
fn assert_moments(
    statistics: &Statistics,
    (weight, mean, scatter): &(Vec<f64>, Vec<f64>, Vec<f64>),
    tol: f64,
) {
    let d = statistics.d();
    assert_all_close(statistics.weight(), weight, 1e-13);
    for (c, w) in weight.iter().enumerate() {
        let own = |i: usize, j: usize| scatter[c * triangle(d) + triangle(i) + j];
        for i in 0..d {
            let deviation = (own(i, i) / w).sqrt();
            let (a, b) = (statistics.mean()[c * d + i], mean[c * d + i]);
            assert!((a - b).abs() <= tol * deviation + 2.0 * f64::EPSILON * b.abs(), "{c} {i}: {a} {b}");
            for j in 0..=i {
                let full = statistics.scatter_form() == Scatter::Full;
                let expected = if full || i == j { own(i, j) } else { 0.0 };
                let got = statistics.scatter_entry(c, i, j);
                let unit = (own(i, i) * own(j, j)).sqrt();
                assert!((got - expected).abs() <= tol * unit, "{c} {i} {j}: {got} {expected}");
                assert_eq!(got, statistics.scatter_entry(c, j, i));
            }
        }
    }
}

#[test]
fn a_block_gives_what_two_passes_give() {
    for d in [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 23, 24, 30, 32, 51] {
        for n in [5, 31, 32, 33, 96] {
            let mut block = block(&whole_weights(sample(n, d, 9)), 3);
            let about = model(CovarianceType::Full, 3, d, 4).density().unwrap().means().to_vec();
            let expected = two_passes(&block);
            for form in [Scatter::Full, Scatter::Diagonal] {
                let statistics = of_block(&mut block, &about, form);
                assert_eq!((statistics.k(), statistics.d(), statistics.scatter_form()), (3, d, form));
                assert_moments(&statistics, &expected, 1e-12);
                let sum = |of: &[f64]| (0..n).map(|i| block.weight()[i] * of[i]).sum::<f64>();
                assert_close(statistics.log_likelihood, sum(&block.log_density), 1e-13);
                assert_close(statistics.entropy, sum(&block.entropy), 1e-13);
                assert_close(statistics.total_weight, block.weight().iter().sum(), 0.0);
                assert_eq!(statistics.n_rows, block.weight().iter().filter(|w| **w > 0.0).count() as u64);
            }
        }
    }
}

#[test]
fn a_bad_guess_of_the_means_costs_nothing() {
    let d = 5;
    let mut block = block(&sample(90, d, 6), 3);
    let expected = two_passes(&block);
    for distance in [1e2, -1e5, 1e8, -1e10, 1e20, -1e100, 1e300] {
        for form in [Scatter::Full, Scatter::Diagonal] {
            let about = vec![distance; 3 * d];
            assert_moments(&of_block(&mut block, &about, form), &expected, 1e-12);
            // Only one feature is far off.
            let about: Vec<f64> = (0..3 * d).map(|e| if e % d == 3 { distance } else { 0.0 }).collect();
            assert_moments(&of_block(&mut block, &about, form), &expected, 1e-12);
        }
    }
}

#[test]
fn rows_far_from_zero_keep_their_scatter() {
    let near = sample(64, 3, 2);
    let move_away = |column: &Vec<f64>| column.iter().map(|x| (x * 1024.0).round() / 1024.0 + 1e8).collect();
    let far = Sample { columns: near.columns.iter().map(move_away).collect(), weight: near.weight };
    let mut block = loaded(&far, 1);
    block.assign(&Labels { k: 1, component: &vec![Some(0); block.len()] }, 0);
    let expected = two_passes(&block);
    for about in [0.0, 1e8, 2e8] {
        assert_moments(&of_block(&mut block, &[about; 3], Scatter::Full), &expected, 1e-10);
    }
}

#[test]
fn constant_rows_scatter_nothing() {
    let rows = Sample { columns: vec![vec![0.1; 50], vec![-7e5; 50]], weight: vec![0.3; 50] };
    let mut block = loaded(&rows, 1);
    block.assign(&Labels { k: 1, component: &vec![Some(0); block.len()] }, 0);
    for about in [[0.1, -7e5], [0.0, 0.0], [1e7, -1e12]] {
        let statistics = of_block(&mut block, &about, Scatter::Full);
        for (j, x) in [0.1_f64, -7e5].into_iter().enumerate() {
            assert!((statistics.mean()[j] - x).abs() <= 2.0 * f64::EPSILON * x.abs());
            let scatter = statistics.scatter_entry(0, j, j);
            assert!((0.0..=15.0 * (4.0 * f64::EPSILON * x).powi(2)).contains(&scatter), "{scatter}");
        }
    }
}

#[test]
fn instruction_sets_agree() {
    let shapes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 23, 24, 25, 33, 51].map(|d| (d, Scatter::Full));
    for (d, form) in shapes.into_iter().chain([(1, Scatter::Diagonal), (9, Scatter::Diagonal)]) {
        let block = block(&whole_weights(sample(70, d, 1)), 3);
        let about = vec![0.5; 3 * d];
        let run = |level: Level| {
            let mut accumulator = Accumulator::new(3, d, form);
            accumulator.level = level;
            accumulator.begin(&guess(&about));
            accumulator.absorb(&block);
            accumulator.finish().0
        };
        let scalar = run(Level::all()[0]);
        for level in Level::all() {
            let other = run(level);
            assert_eq!(other.n_rows, scalar.n_rows);
            assert_close(other.log_likelihood, scalar.log_likelihood, 1e-13);
            assert_all_close(other.weight(), scalar.weight(), 1e-13);
            assert_all_close(other.mean(), scalar.mean(), 1e-13);
            assert_all_close(other.scatter(), scalar.scatter(), 1e-12);
        }
    }
}

/// The same responsibilities of all rows but one.
struct Spoiled(f64);

impl Responsibilities for Spoiled {
    fn k(&self) -> usize {
        3
    }

    fn assign(&self, start: usize, block: &mut Block) {
        block.components_mut().fill(0.25);
        if (start..start + block.len()).contains(&7) {
            block.component_mut(1)[7 - start] = self.0;
        }
    }
}

#[test]
fn rows_that_weigh_nothing_may_have_any_responsibility() {
    let mut rows = sample(140, 2, 3);
    rows.weight[7] = 0.0;
    let of = |r| Pass::SEQUENTIAL.assigned(&rows, &Spoiled(r), Scatter::Full).unwrap();
    let expected = of(0.25);
    for wrong in [f64::NAN, f64::INFINITY, -3.0] {
        assert_eq!(bits(of(wrong).scatter()), bits(expected.scatter()));
        assert_eq!(bits(of(wrong).mean()), bits(expected.mean()));
    }
}

fn part(rows: &Sample, range: std::ops::Range<usize>, form: Scatter) -> Statistics {
    let cut = |values: &Vec<f64>| values[range.clone()].to_vec();
    let part = Sample { columns: rows.columns.iter().map(cut).collect(), weight: cut(&rows.weight) };
    let about = vec![0.0; 3 * part.columns.len()];
    of_block(&mut block(&part, 3), &about, form)
}

#[test]
fn merged_parts_are_the_whole_in_any_order() {
    for (d, form) in [(1, Scatter::Full), (4, Scatter::Full), (4, Scatter::Diagonal)] {
        let rows = whole_weights(sample(200, d, 13));
        let expected = two_passes(&block(&rows, 3));
        let whole = part(&rows, 0..200, form);
        for cuts in [[0, 3, 100, 200], [0, 1, 2, 200], [0, 67, 133, 200]] {
            let parts: Vec<Statistics> = cuts.windows(2).map(|w| part(&rows, w[0]..w[1], form)).collect();
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                let mut sum = Statistics::new(3, d, form);
                for i in order {
                    sum.merge(&parts[i]);
                }
                assert_moments(&sum, &expected, 1e-12);
                assert_close(sum.log_likelihood, whole.log_likelihood, 1e-13);
                assert_close(sum.entropy, whole.entropy, 1e-13);
                assert_eq!((sum.n_rows, sum.total_weight), (whole.n_rows, whole.total_weight));
            }
        }
    }
}

#[test]
fn parts_far_apart_merge_by_the_formula() {
    let at =
        |w, m: f64| Statistics::from_parts((1, 2, Scatter::Full), vec![w], vec![m, -m], vec![2.0, 0.5, 3.0]);
    let mut sum = at(1.0, 0.0).unwrap();
    sum.merge(&at(3.0, 8.0).unwrap());
    assert_eq!(sum.weight(), [4.0]);
    assert_eq!(sum.mean(), [6.0, -6.0]);
    // W_a W_b / W δδᵀ = 3/4 · 64 · [1, −1, 1]
    assert_eq!(sum.scatter(), [4.0 + 48.0, 1.0 - 48.0, 6.0 + 48.0]);
}

#[test]
fn moments_that_overflow_are_found() {
    let at = |m: f64| Statistics::from_parts((1, 1, Scatter::Full), vec![1.0], vec![m], vec![0.0]).unwrap();
    let mut sum = at(1.0);
    sum.merge(&at(3.0));
    assert_eq!(sum.check_finite(), Ok(()));
    sum.merge(&at(1e200));
    assert_eq!(sum.check_finite(), Err(Error::Overflow));
    for figure in [f64::NAN, f64::NEG_INFINITY] {
        let mut statistics = at(1.0);
        statistics.log_likelihood = figure;
        assert_eq!(statistics.check_finite(), Err(Error::Overflow));
    }
}

#[test]
fn merging_nothing_changes_no_bit() {
    for form in [Scatter::Full, Scatter::Diagonal] {
        let some = part(&sample(50, 3, 8), 0..50, form);
        let mut left = some.clone();
        left.merge(&Statistics::new(3, 3, form));
        let mut right = Statistics::new(3, 3, form);
        right.merge(&some);
        for merged in [&left, &right] {
            assert_eq!(merged, &some);
            assert_eq!(bits(merged.mean()), bits(some.mean()));
        }
    }
}

#[test]
fn only_equal_shapes_merge() {
    let one = Statistics::new(2, 3, Scatter::Full);
    assert!(one.check_mergeable(&one).is_ok());
    for (k, d, form) in [(3, 3, Scatter::Full), (2, 2, Scatter::Full), (2, 3, Scatter::Diagonal)] {
        let error = one.check_mergeable(&Statistics::new(k, d, form)).unwrap_err();
        assert!(error.to_string().contains(&format!("k=2, d=3, Full scatter and k={k}, d={d}, {form:?}")));
    }
}

#[test]
fn parts_are_checked() {
    let full = |weight: &[f64], mean: &[f64], scatter: &[f64]| {
        let parts = (weight.to_vec(), mean.to_vec(), scatter.to_vec());
        Statistics::from_parts((2, 2, Scatter::Full), parts.0, parts.1, parts.2)
    };
    let (w, m, s) = ([1.0, 0.0], [1.0, 2.0, 3.0, 4.0], [1.0, 0.5, 1.0, 2.0, 0.0, 2.0]);
    assert_eq!(full(&w, &m, &s).unwrap().scatter_entry(1, 0, 0), 2.0);
    for wrong in [full(&w[..1], &m, &s), full(&w, &m[..3], &s), full(&w, &m, &s[..4])] {
        assert!(matches!(wrong, Err(Error::Shape { .. })));
    }
    let not_finite = |result: Result<Statistics>, expected: &str| match result {
        Err(Error::NotFinite { name, component, value }) => {
            assert_eq!((name, component, value.is_finite()), (expected, 1, false));
        }
        other => panic!("{other:?}"),
    };
    not_finite(full(&[1.0, f64::NAN], &m, &s), "weight");
    not_finite(full(&w, &[1.0, 2.0, f64::INFINITY, 4.0], &s), "mean");
    not_finite(full(&w, &m, &[1.0, 0.5, 1.0, f64::NEG_INFINITY, 0.0, 2.0]), "scatter");
    let negative = full(&[1.0, -0.5], &m, &s);
    assert_eq!(negative, Err(Error::NegativeWeight { component: 1, value: -0.5 }));
}

#[test]
fn entries_of_the_scatter_are_where_they_belong() {
    let packed: Vec<f64> = (0..12).map(f64::from).collect();
    let full = Statistics::from_parts((2, 3, Scatter::Full), vec![1.0; 2], vec![0.0; 6], packed).unwrap();
    let second = [[6.0, 7.0, 9.0], [7.0, 8.0, 10.0], [9.0, 10.0, 11.0]];
    let packed: Vec<f64> = (0..6).map(f64::from).collect();
    let diagonal =
        Statistics::from_parts((2, 3, Scatter::Diagonal), vec![1.0; 2], vec![0.0; 6], packed).unwrap();
    for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
        assert_eq!(full.scatter_entry(1, i, j), second[i][j]);
        assert_eq!(diagonal.scatter_entry(1, i, j), if i == j { 3.0 + i as f64 } else { 0.0 });
    }
}

/// Statistics of rows under a model, about an origin that its components share or about their means.
fn under(rows: &Sample, model: &Model, level: Level, shared: bool) -> Statistics {
    let density = model.density().unwrap();
    let origin = density.guess().origin.filter(|_| shared);
    assert_eq!(origin.is_some(), shared);
    let mut accumulator = Accumulator::new(model.k(), model.d(), Scatter::Full);
    accumulator.level = level;
    let mut block = Block::default();
    let guess = Guess { origin, ..density.guess() };
    let feed = |accumulator: &mut Accumulator| {
        for start in (0..rows.n_rows()).step_by(160) {
            block.load(rows, start, 160.min(rows.n_rows() - start), model.k());
            density.shares(&mut block);
            accumulator.absorb(&block);
        }
        Ok::<(), Error>(())
    };
    Statistics::of(&mut accumulator, &guess, feed).unwrap()
}

/// A model whose components overlap.
fn overlapping(k: usize, d: usize) -> Model {
    let apart = model(CovarianceType::Full, k, d, 5);
    let (means, covariances) = (apart.means() * 0.1, apart.covariances() * 4.0);
    Model::new(apart.features().to_vec(), CovarianceType::Full, apart.weights().clone(), means, covariances)
        .unwrap()
}

#[test]
fn products_that_components_share_give_the_sums_of_each() {
    let many = [
        (5, 8, 6),
        (40, 9, 7),
        (160, 33, 7),
        (700, 9, 8),
        (700, 16, 8),
        (2000, 34, 9),
        (900, 64, 16),
        (1500, 35, 30),
        (1000, 16, 32),
        (600, 17, 63),
        (500, 33, 65),
    ];
    let where_registers_are_few = [(600, 17, 4), (900, 16, 5)];
    let few = Level::chosen().registers() < 32;
    for (n, k, d) in many.into_iter().chain(where_registers_are_few.into_iter().filter(|_| few)) {
        let (rows, model) = (whole_weights(sample(n, d, 3)), overlapping(k, d));
        for level in Level::all().into_iter().filter(|level| products(k, d, *level)) {
            let (shared, own) = (under(&rows, &model, level, true), under(&rows, &model, level, false));
            assert!(shared.scatter() != own.scatter(), "{n} {k} {d}: one path alone was taken");
            let expected = (own.weight().to_vec(), own.mean().to_vec(), own.scatter().to_vec());
            assert_moments(&shared, &expected, 1e-12);
            assert_eq!((shared.n_rows, shared.total_weight), (own.n_rows, own.total_weight));
        }
    }
}

#[test]
fn products_that_overflow_spoil_no_other_component() {
    let (k, d) = (32, 6);
    let mut rows = sample(300, d, 3);
    let model = overlapping(k, d);
    rows.columns[2][17] = 1e160;
    let own = under(&rows, &model, Level::chosen(), false);
    let shared = under(&rows, &model, Level::chosen(), true);
    assert!(own.check_finite().is_err() && shared.check_finite().is_err());
    assert_all_close(shared.weight(), own.weight(), 1e-13);
    let width = triangle(d);
    let finite = |c: &usize| own.scatter()[c * width..][..width].iter().all(|s| s.is_finite());
    let others: Vec<usize> = (0..k).filter(finite).collect();
    assert_eq!(others.len(), k - 1);
    for c in others {
        assert_all_close(&shared.mean()[c * d..][..d], &own.mean()[c * d..][..d], 1e-12);
        assert_all_close(
            &shared.scatter()[c * width..][..width],
            &own.scatter()[c * width..][..width],
            1e-12,
        );
    }
}

#[test]
fn rows_that_weigh_nothing_make_no_product_overflow() {
    let (k, d) = (32, 6);
    let mut rows = sample(300, d, 3);
    rows.weight[17] = 0.0;
    let model = overlapping(k, d);
    let expected = under(&rows, &model, Level::chosen(), true);
    rows.columns[2][17] = 1e200;
    let got = under(&rows, &model, Level::chosen(), true);
    assert_eq!(bits(got.scatter()), bits(expected.scatter()));
    assert_eq!(bits(got.mean()), bits(expected.mean()));
}

#[test]
fn responsibilities_of_components_far_apart_are_summed_about_their_means() {
    let k = 32;
    let mut rows = sample(900, 6, 4);
    let label = |i: usize| i % k;
    for column in &mut rows.columns {
        column.iter_mut().enumerate().for_each(|(i, x)| *x = *x * 1e-3 + 1e3 * label(i) as f64);
    }
    let component: Vec<Option<u32>> = (0..900).map(|i| Some(label(i) as u32)).collect();
    let mut block = loaded(&rows, k);
    block.assign(&Labels { k, component: &component }, 0);
    let hard = Pass::SEQUENTIAL.assigned(&rows, &Labels { k, component: &component }, Scatter::Full).unwrap();
    assert_moments(&hard, &two_passes(&block), 1e-9);
    let mixed = Pass::SEQUENTIAL.assigned(&rows, &Mixed { k, n: 900 }, Scatter::Full).unwrap();
    block.assign(&Mixed { k, n: 900 }, 0);
    assert_moments(&mixed, &two_passes(&block), 1e-12);
}

/// All rows in all components, some more than others.
struct Mixed {
    k: usize,
    n: usize,
}

impl Responsibilities for Mixed {
    fn k(&self) -> usize {
        self.k
    }

    fn assign(&self, start: usize, block: &mut Block) {
        for c in 0..self.k {
            for i in 0..block.len() {
                block.component_mut(c)[i] = ((start + i) * (c + 1) % self.n) as f64;
            }
        }
    }
}

/// Responsibilities that lie row after row.
struct Lying {
    k: usize,
    numbers: Vec<f64>,
    known: bool,
}

impl Lying {
    /// Of `n` rows, some more in one component than others; spoiled ones may have any.
    fn new(n: usize, k: usize, spoiled: &[usize], known: bool) -> Self {
        let number = |(i, c)| if spoiled.contains(&i) { f64::NAN } else { (i * (c + 1) % 97) as f64 / 97.0 };
        let numbers = (0..n).flat_map(|i| (0..k).map(move |c| (i, c))).map(number).collect();
        Self { k, numbers, known }
    }
}

impl Responsibilities for Lying {
    fn k(&self) -> usize {
        self.k
    }

    fn assign(&self, start: usize, block: &mut Block) {
        for i in 0..block.len() {
            for c in 0..self.k {
                block.component_mut(c)[i] = self.numbers[(start + i) * self.k + c];
            }
        }
    }

    fn by_row(&self) -> bool {
        true
    }

    fn lying(&self, rows: std::ops::Range<usize>) -> Option<&[f64]> {
        self.known.then(|| &self.numbers[rows.start * self.k..])
    }
}

#[test]
fn responsibilities_are_summed_as_they_lie() {
    let full = [1, 2, 3, 4, 5].map(|d| (d, Scatter::Full));
    let diagonal = [1, 2, 5, 8, 11].map(|d| (d, Scatter::Diagonal));
    for (d, form) in full.into_iter().chain(diagonal) {
        for (n, k) in [(1, 12), (90, 12), (97, 13), (300, 16), (257, 20), (1030, 25), (64, 49)] {
            let mut rows = whole_weights(sample(n, d, 3));
            let spoiled: Vec<usize> = [0, 50, 95, 96, 97].into_iter().filter(|i| *i + 1 < n).collect();
            for i in &spoiled {
                rows.weight[*i] = 0.0;
            }
            let sum = |given: &Lying| Pass::SEQUENTIAL.assigned(&rows, given, form).unwrap();
            let lying = sum(&Lying::new(n, k, &spoiled, true));
            for other in [Lying::new(n, k, &spoiled, false), Lying::new(n, k, &[], true)] {
                let other = sum(&other);
                assert_eq!(bits(lying.weight()), bits(other.weight()));
                assert_eq!(bits(lying.mean()), bits(other.mean()));
                assert_eq!(bits(lying.scatter()), bits(other.scatter()));
            }
            if n < 1000 && n > 1 {
                let mut block = loaded(&rows, k);
                block.assign(&Lying::new(n, k, &spoiled, true), 0);
                assert_moments(&lying, &two_passes(&block), 1e-12);
            }
        }
    }
}

#[test]
fn components_as_lanes_give_the_sums_of_rows_as_lanes_on_every_instruction_set() {
    let shapes = [(1, Scatter::Full), (2, Scatter::Full), (3, Scatter::Full), (5, Scatter::Full)];
    for (d, form) in shapes.into_iter().chain([(2, Scatter::Diagonal), (7, Scatter::Diagonal)]) {
        for k in [12, 15, 20, 31] {
            let block = block(&whole_weights(sample(70, d, 1)), k);
            let run = |level: Level, by_row| {
                let origin = Some(vec![0.5; d].into());
                let mut accumulator = Accumulator::new(k, d, form);
                accumulator.level = level;
                accumulator.begin(&Guess { means: vec![0.5; k * d].into(), origin, by_row });
                accumulator.absorb(&block);
                accumulator.finish().0
            };
            let lanes_of_rows = run(Level::chosen(), false);
            for level in Level::all() {
                let other = run(level, true);
                assert!(other.scatter() != lanes_of_rows.scatter(), "one path alone was taken");
                assert_all_close(other.weight(), lanes_of_rows.weight(), 1e-13);
                assert_all_close(other.mean(), lanes_of_rows.mean(), 1e-13);
                assert_all_close(other.scatter(), lanes_of_rows.scatter(), 1e-12);
            }
        }
    }
}

#[test]
fn what_an_e_step_said_is_no_figure_of_responsibilities_that_are_given() {
    let rows = sample(60, 2, 3);
    let density = model(CovarianceType::Full, 13, 2, 4).density().unwrap();
    let mut passes = Passes::new(&rows, Pass::SEQUENTIAL, Scatter::Full);
    passes.e_step(&density).unwrap();
    let statistics = passes.assigned(&Lying::new(60, 13, &[], true)).unwrap();
    assert_eq!((statistics.log_likelihood, statistics.entropy), (0.0, 0.0));
}

#[test]
fn components_as_lanes_far_apart_are_summed_about_their_means() {
    let (n, k) = (300, 20);
    let mut rows = sample(n, 2, 4);
    for column in &mut rows.columns {
        column.iter_mut().enumerate().for_each(|(i, x)| *x = *x * 1e-3 + 1e3 * (i % k) as f64);
    }
    rows.columns[0][7] = 1e200;
    rows.weight[7] = 0.0;
    let component: Vec<Option<u32>> = (0..n).map(|i| Some((i % k) as u32)).collect();
    let mut block = loaded(&rows, k);
    block.assign(&Labels { k, component: &component }, 0);
    let numbers = (0..n * k).map(|i| f64::from(u8::from(i / k % k == i % k))).collect();
    let given = Lying { k, numbers, known: true };
    let hard = Pass::SEQUENTIAL.assigned(&rows, &given, Scatter::Full).unwrap();
    assert_moments(&hard, &two_passes(&block), 1e-9);
}
