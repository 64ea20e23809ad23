//! The start sample: the rows of smallest hash of seed and row number.

use pulp::{Simd, WithSimd};

use super::super::rows::{Block, Rows, Sample};
use super::super::shapes::block_rows;
use super::super::simd::Level;

/// Rows of the start sample: enough for every component to be seen and its covariance to have full rank.
pub fn sample_rows(k: usize, d: usize) -> usize {
    2048.max(256 * k).max(8 * k * (d + 1))
}

/// Whether so many rows are few enough to be taken whole: a sample of this size would leave out less than half.
fn is_whole(n_rows: usize, size: usize) -> bool {
    n_rows <= 2 * size
}

/// Rows, what is known of their components, and whether they are all that count.
pub struct Drawn {
    size: usize,
    seed: u64,
    /// The rows, in their order.
    pub sample: Sample,
    /// The component of each row, where it is known; empty where none is.
    pub label: Vec<Option<u32>>,
    /// Whether every row that counts is in it.
    pub complete: bool,
}

impl Drawn {
    /// Whether a sample of this size and seed would be the same.
    pub fn is(&self, size: usize, seed: u64) -> bool {
        (self.complete && is_whole(self.sample.n_rows(), size)) || (self.size, self.seed) == (size, seed)
    }
}

/// Draws the same sample from rows that come block by block, in any order.
#[derive(Default)]
pub struct Sampler {
    size: usize,
    seed: u64,
    chosen: Vec<Candidate>,
    /// Rows of this hash or a larger one are not among the chosen.
    limit: u64,
}

/// A row that may be in the sample.
pub struct Candidate {
    hash: u64,
    row: u64,
    features: Vec<f64>,
    weight: f64,
    label: Option<u32>,
}

impl Sampler {
    /// For a sample of `size` rows.
    pub fn new(size: usize, seed: u64) -> Self {
        Self { size, seed, chosen: Vec::new(), limit: u64::MAX }
    }

    /// The seed, and the hash that a row must be below to be drawn.
    pub fn threshold(&self) -> (u64, u64) {
        (self.seed, self.limit)
    }

    /// Takes rows, of a hash below the threshold at some time.
    pub fn extend(&mut self, candidates: impl IntoIterator<Item = Candidate>) {
        self.chosen.extend(candidates.into_iter().filter(|c| c.hash < self.limit));
        if !is_whole(self.chosen.len(), self.size) {
            self.chosen.select_nth_unstable_by_key(self.size, |c| c.hash);
            self.limit = self.chosen[self.size].hash;
            self.chosen.truncate(self.size);
        }
    }

    /// A sample of `size` of all rows taken, no more than the sampler is for; all of them where they are few.
    pub fn draw(&self, d: usize, size: usize) -> Drawn {
        let mut chosen: Vec<&Candidate> = self.chosen.iter().collect();
        chosen.sort_unstable_by_key(|c| c.hash);
        let complete = self.limit == u64::MAX && is_whole(chosen.len(), size);
        let size = size.min(self.size);
        if !complete {
            chosen.truncate(size);
        }
        chosen.sort_unstable_by_key(|c| c.row);
        let columns = (0..d).map(|j| chosen.iter().map(|c| c.features[j]).collect()).collect();
        let weight = chosen.iter().map(|c| c.weight).collect();
        let mut label: Vec<Option<u32>> = chosen.iter().map(|c| c.label).collect();
        if label.iter().all(Option::is_none) {
            label.clear();
        }
        Drawn { size, seed: self.seed, sample: Sample { columns, weight }, label, complete }
    }
}

/// The rows of a block, numbered from `start` on, that count and whose hash lies below the threshold.
pub fn candidates((seed, limit): (u64, u64), start: u64, block: &Block) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut hashes = [0; HASHED];
    for at in (0..block.len()).step_by(HASHED) {
        let least = Level::chosen().run(Hashes { seed, first: start + at as u64, values: &mut hashes });
        if least >= limit {
            continue;
        }
        for (i, hash) in (at..block.len()).zip(hashes) {
            if hash < limit && block.counts(i) {
                found.push(Candidate {
                    hash,
                    row: start + i as u64,
                    features: (0..block.d()).map(|j| block.feature(j)[i]).collect(),
                    weight: block.weight()[i],
                    label: block.label(i),
                });
            }
        }
    }
    found
}

/// Rows hashed together, so that the loop becomes vector code.
const HASHED: usize = 64;

/// The hashes of rows from `first` on, and the least of them.
struct Hashes<'a> {
    seed: u64,
    first: u64,
    values: &'a mut [u64; HASHED],
}

impl WithSimd for Hashes<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u64 {
        let Self { seed, first, values } = self;
        for (i, value) in values.iter_mut().enumerate() {
            *value = hash(seed, first.wrapping_add(i as u64));
        }
        values.iter().fold(u64::MAX, |least, hash| least.min(*hash))
    }
}

/// The `size` rows of smallest hash among those that count, in row order; all of them where they are few.
pub fn sample(rows: &dyn Rows, size: usize, seed: u64) -> Drawn {
    let d = rows.d();
    let mut chosen: Vec<(u64, usize)> = Vec::new();
    let mut limit = u64::MAX;
    for_each_block(rows, |start, block| {
        for i in (0..block.len()).filter(|i| block.counts(*i)) {
            let hash = hash(seed, (start + i) as u64);
            if hash < limit {
                chosen.push((hash, start + i));
            }
        }
        if !is_whole(chosen.len(), size) {
            chosen.select_nth_unstable(size);
            limit = chosen[size].0;
            chosen.truncate(size);
        }
    });
    let complete = limit == u64::MAX && is_whole(chosen.len(), size);
    if !complete && chosen.len() > size {
        chosen.select_nth_unstable(size);
        chosen.truncate(size);
    }
    chosen.sort_unstable_by_key(|(_, row)| *row);
    let columns = (0..d).map(|_| Vec::with_capacity(chosen.len())).collect();
    let mut sample = Sample { columns, weight: Vec::with_capacity(chosen.len()) };
    let mut label = Vec::new();
    let mut next = chosen.iter().map(|(_, row)| *row).peekable();
    for_each_block(rows, |start, block| {
        while let Some(row) = next.next_if(|row| *row < start + block.len()) {
            for (j, column) in sample.columns.iter_mut().enumerate() {
                column.push(block.feature(j)[row - start]);
            }
            sample.weight.push(block.weight()[row - start]);
            label.push(block.label(row - start));
        }
    });
    if label.iter().all(Option::is_none) {
        label = Vec::new();
    }
    Drawn { size, seed, sample, label, complete }
}

fn for_each_block(rows: &dyn Rows, mut visit: impl FnMut(usize, &Block)) {
    let mut block = Block::default();
    let size = block_rows(rows.d(), 1);
    for start in (0..rows.n_rows()).step_by(size) {
        block.load(rows, start, size.min(rows.n_rows() - start), 0);
        visit(start, &block);
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014) over seed and row.
#[inline(always)]
pub fn hash(seed: u64, row: u64) -> u64 {
    let mut z = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Row `i` holds `i`; every fifth row weighs nothing.
    fn numbered(n: usize) -> Sample {
        let column = (0..n).map(|i| i as f64).collect();
        Sample { columns: vec![column], weight: (0..n).map(|i| (i % 5) as f64).collect() }
    }

    #[test]
    fn the_size_grows_with_components_and_features() {
        for (k, d, rows) in [(1, 1, 2048), (8, 2, 2048), (9, 2, 2304), (20, 20, 5120), (20, 99, 16_000)] {
            assert_eq!(sample_rows(k, d), rows);
        }
    }

    #[test]
    fn the_sample_is_the_rows_of_smallest_hash() {
        for (n, size) in [(20_000, 700), (3000, 10), (50_000, 2048)] {
            let rows = numbered(n);
            for seed in [0, 1, u64::MAX] {
                let mut order: Vec<usize> = (0..n).filter(|i| i % 5 > 0).collect();
                order.sort_by_key(|i| hash(seed, *i as u64));
                order.truncate(size);
                order.sort_unstable();
                let Drawn { sample, complete, .. } = sample(&rows, size, seed);
                assert!(!complete);
                assert_eq!(sample.columns[0], order.iter().map(|i| *i as f64).collect::<Vec<f64>>());
                assert_eq!(sample.weight, order.iter().map(|i| (i % 5) as f64).collect::<Vec<f64>>());
            }
        }
    }

    #[test]
    fn a_sample_serves_where_another_would_be_the_same() {
        let rows = numbered(2500);
        for (drawn, wanted) in [((700, 1), (700, 1)), ((700, 1), (700, 2)), ((700, 1), (900, 1))] {
            let (first, second) = (sample(&rows, drawn.0, drawn.1), sample(&rows, wanted.0, wanted.1));
            assert_eq!(first.is(wanted.0, wanted.1), first.sample.columns == second.sample.columns);
        }
        let whole = sample(&rows, 1000, 1);
        for (size, seed, served) in [(1000, 2, true), (9000, 1, true), (999, 1, false)] {
            assert_eq!(whole.is(size, seed), served);
        }
    }

    #[test]
    fn few_rows_are_taken_whole() {
        let rows = numbered(2500);
        for size in [1000, 1001, 2000, 5000] {
            let Drawn { sample, complete, .. } = sample(&rows, size, 3);
            assert_eq!((sample.weight.len(), complete), (2000, true));
        }
        assert!(!sample(&rows, 999, 3).complete);
        assert_eq!(sample(&numbered(0), 10, 3).sample.columns, vec![Vec::<f64>::new()]);
    }

    #[test]
    fn rows_and_seeds_are_spread_evenly() {
        let first = |seed| sample(&numbered(50_000), 2000, seed).sample.columns[0].clone();
        let (a, b) = (first(0), first(1));
        // The mean of 2000 uniform numbers below 50 000, to five standard deviations.
        let mean = a.iter().sum::<f64>() / 2000.0;
        assert!((mean - 25_000.0).abs() < 5.0 * 50_000.0 / (12.0_f64 * 2000.0).sqrt(), "{mean}");
        let a: HashSet<u64> = a.iter().map(|x| *x as u64).collect();
        let common = b.iter().filter(|x| a.contains(&(**x as u64))).count();
        assert!((40..=160).contains(&common), "{common} where 100 are expected");
        let hashes: HashSet<u64> = (0..100_000).map(|row| hash(7, row)).collect();
        assert_eq!(hashes.len(), 100_000);
    }
}
