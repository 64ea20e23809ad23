//! The start sample: the rows of smallest hash of seed and row number.

use super::super::pass::leaf_rows;
use super::super::rows::{Block, Rows, Sample};

/// Rows of the start sample: enough for every component to be seen and its covariance to have full rank.
pub fn sample_rows(k: usize, d: usize) -> usize {
    2048.max(256 * k).max(8 * k * (d + 1))
}

/// The `size` rows of smallest hash among those that count, in row order, and whether these are all.
pub fn sample(rows: &dyn Rows, size: usize, seed: u64) -> (Sample, bool) {
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
        if chosen.len() > 2 * size {
            chosen.select_nth_unstable(size);
            limit = chosen[size].0;
            chosen.truncate(size);
        }
    });
    let complete = limit == u64::MAX && chosen.len() <= size;
    if chosen.len() > size {
        chosen.select_nth_unstable(size);
        chosen.truncate(size);
    }
    chosen.sort_unstable_by_key(|(_, row)| *row);
    let mut sample = Sample { columns: vec![Vec::with_capacity(chosen.len()); d], weight: Vec::new() };
    let mut next = chosen.iter().map(|(_, row)| *row).peekable();
    for_each_block(rows, |start, block| {
        while let Some(row) = next.next_if(|row| *row < start + block.len()) {
            for (j, column) in sample.columns.iter_mut().enumerate() {
                column.push(block.feature(j)[row - start]);
            }
            sample.weight.push(block.weight()[row - start]);
        }
    });
    (sample, complete)
}

fn for_each_block(rows: &dyn Rows, mut visit: impl FnMut(usize, &Block)) {
    let mut block = Block::default();
    let size = leaf_rows(rows.d(), 1);
    for start in (0..rows.n_rows()).step_by(size) {
        block.load(rows, start, size.min(rows.n_rows() - start), 0);
        visit(start, &block);
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014) over seed and row.
pub fn hash(seed: u64, row: u64) -> u64 {
    let mut z = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
