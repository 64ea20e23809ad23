//! Which rows of a column hold the same model, so that each is factorised once, however the rows are ordered.

#![allow(clippy::indexing_slicing)] // Rows are numbered within their column.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use polars_arrow::array::{Array, BinaryViewArray};

/// Rows numbered by the model they hold.
pub struct Distinct {
    /// The first row of each model, in the order of the rows.
    pub first: Vec<usize>,
    /// The number of the model of each row.
    pub number: Vec<u32>,
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Words>>;

impl Distinct {
    /// Rows of equal hash are compared with the first row of each model of that hash.
    pub fn by(len: usize, hash: impl Fn(usize) -> u64, equal: impl Fn(usize, usize) -> bool) -> Self {
        let mut distinct = Self::with_capacity(len);
        let mut known: Map<u64, Vec<u32>> = Map::default();
        for row in 0..len {
            if let Some(last) = distinct.number.last().copied().filter(|_| equal(row - 1, row)) {
                distinct.number.push(last);
                continue;
            }
            let same = known.entry(hash(row)).or_default();
            match same.iter().find(|number| equal(distinct.first[**number as usize], row)) {
                Some(number) => distinct.number.push(*number),
                None => same.push(distinct.add(row)),
            }
        }
        distinct
    }

    /// Packed models; a view that was met before needs no look at its bytes.
    pub fn of_bytes(bytes: &BinaryViewArray) -> Self {
        let mut distinct = Self::with_capacity(bytes.len());
        let mut by_view: Map<u128, u32> = Map::default();
        let mut by_bytes: Map<Option<&[u8]>, u32> = Map::default();
        for (row, view) in bytes.views().iter().enumerate() {
            let null = bytes.is_null(row);
            // No view of bytes is all ones: it would be longer than the bytes of any buffer.
            let view = if null { u128::MAX } else { view.as_u128() };
            let number = *by_view.entry(view).or_insert_with(|| {
                let content = (!null).then(|| bytes.value(row));
                *by_bytes.entry(content).or_insert_with(|| distinct.add(row))
            });
            if distinct.number.len() == row {
                distinct.number.push(number);
            }
        }
        distinct
    }

    fn with_capacity(rows: usize) -> Self {
        Self { first: Vec::new(), number: Vec::with_capacity(rows) }
    }

    /// Numbers the model of a row, which is new.
    fn add(&mut self, row: usize) -> u32 {
        let number = self.first.len() as u32;
        self.first.push(row);
        self.number.push(number);
        number
    }
}

/// A hash of words for numbers and bytes of one process, which nobody chooses to collide.
#[derive(Default)]
pub struct Words(u64);

impl Hasher for Words {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
