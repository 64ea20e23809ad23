//! The checks of data: weights, features, responsibilities and labels, with the rows at fault counted and named.

#![allow(clippy::indexing_slicing)] // Rows are numbered within chunks that were allocated for them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::columns::{Column, Given, Table};
use super::error::{Error, Result};
use crate::mixture::{Block, Responsibilities, Rows};

/// Rows looked at together by the checks.
const CHECKED: usize = 512;

/// The first of several rows at fault, and how many there are.
#[derive(Clone, Copy, Default)]
struct Fault {
    count: usize,
    first: usize,
}

impl Fault {
    fn add(&mut self, row: usize) {
        if self.count == 0 {
            self.first = row;
        }
        self.count += 1;
    }

    fn or(self, error: impl FnOnce(usize, usize) -> Error) -> Result<()> {
        if self.count == 0 {
            Ok(())
        } else {
            Err(error(self.count, self.first))
        }
    }
}

/// What a null feature means to the responsibilities of its row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// They must be null too.
    Agree,
    /// The row does not count, whatever they are.
    LeaveOut,
}

/// Numbers looked at together, in as many sums, so that the loop becomes vector code.
const TOGETHER: usize = 8;

fn all_finite(lane: &[f64]) -> bool {
    let (groups, rest) = lane.as_chunks::<TOGETHER>();
    let mut sums = [0.0; TOGETHER];
    for group in groups {
        for (sum, x) in sums.iter_mut().zip(group) {
            *sum += x * 0.0;
        }
    }
    sums.iter().sum::<f64>() == 0.0 && rest.iter().all(|x| x.is_finite())
}

/// Whether all are finite and none is negative.
fn all_shares(lane: &[f64]) -> bool {
    let (groups, rest) = lane.as_chunks::<TOGETHER>();
    let mut negative = [false; TOGETHER];
    for group in groups {
        for (negative, x) in negative.iter_mut().zip(group) {
            *negative |= *x < 0.0;
        }
    }
    all_finite(lane) && !negative.contains(&true) && rest.iter().all(|x| *x >= 0.0)
}

/// Responsibilities that are looked at as they are read: only if some are suspect the rows at fault must be found.
pub struct Watched<'a> {
    given: &'a Given,
    suspect: AtomicBool,
}

impl<'a> Watched<'a> {
    /// Nothing read yet.
    pub fn new(given: &'a Given) -> Self {
        Self { given, suspect: AtomicBool::new(false) }
    }

    /// Whether a null, a negative number or one that is not finite was read.
    pub fn suspects(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }
}

impl Responsibilities for Watched<'_> {
    fn k(&self) -> usize {
        self.given.k()
    }

    fn assign(&self, start: usize, block: &mut Block) {
        let (rows, stride) = (start..start + block.len(), block.stride());
        let mut suspect = false;
        // Null responsibilities leave the zeros of the block.
        self.given.source.read(rows, block.components_mut(), stride, |_, _| suspect = true);
        if suspect || !all_shares(block.components_mut()) {
            self.suspect.store(true, Ordering::Relaxed);
        }
    }
}

impl Table {
    /// Checks the weights of all rows; returns the number of those that weigh more than nothing.
    ///
    /// # Errors
    /// The number of weights at fault and the first row.
    pub fn weighing(&self) -> Result<usize> {
        self.check_weights()?;
        let Some(Column { lane, .. }) = &self.weight else {
            return Ok(self.n_rows);
        };
        let mut weight = vec![0.0; CHECKED];
        let mut count = 0;
        for start in (0..self.n_rows).step_by(CHECKED) {
            let len = CHECKED.min(self.n_rows - start);
            lane.read(start..start + len, &mut weight, |_| {});
            count += weight[..len].iter().filter(|w| **w > 0.0).count();
        }
        Ok(count)
    }

    /// Checks weights and features of all rows that weigh more than nothing; nulls are faults only with `nulls`.
    /// Returns the number of rows that count.
    ///
    /// # Errors
    /// The first column at fault, with the number of faults and the first row.
    pub fn check(&self, nulls: bool) -> Result<usize> {
        self.check_weights()?;
        let mut count = 0;
        let d = self.d();
        let mut null = vec![Fault::default(); d];
        let mut not_finite = vec![Fault::default(); d];
        self.for_each_chunk(|start, len, lanes, weight| {
            let mut is_null = vec![false; len];
            self.source.read(start..start + len, lanes, self.checked(), |row, j| {
                if weight[row] > 0.0 {
                    null[j].add(start + row);
                }
                is_null[row] = true;
            });
            for (lane, fault) in lanes.chunks_exact(self.checked()).zip(&mut not_finite) {
                let lane = &lane[..len];
                if all_finite(lane) {
                    continue;
                }
                for (row, x) in lane.iter().enumerate() {
                    if !x.is_finite() && !is_null[row] && weight[row] > 0.0 {
                        fault.add(start + row);
                    }
                }
            }
            count += weight.iter().zip(&is_null).filter(|(w, null)| **w > 0.0 && !**null).count();
        });
        for (name, (null, not_finite)) in self.features.iter().zip(null.into_iter().zip(not_finite)) {
            if nulls {
                null.or(|count, row| Error::Nulls { name: name.clone(), count, row })?;
            }
            not_finite.or(|count, row| Error::NotFinite { name: name.clone(), count, row })?;
        }
        Ok(count)
    }

    /// Checks given responsibilities beside the features: numbers >= 0, and null in the same rows, or only there if
    /// rows with a null feature do not count.
    ///
    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn check_responsibilities(&self, given: &Given, nulls: Nulls) -> Result<()> {
        let mut mismatch = Fault::default();
        let (mut negative, mut not_finite) = (Fault::default(), Fault::default());
        let mut given_lanes = vec![0.0; given.width() * CHECKED];
        self.for_each_chunk(|start, len, lanes, weight| {
            let (mut x_null, mut r_null) = (vec![false; len], vec![false; len]);
            let mut any_null = false;
            self.source.read(start..start + len, lanes, self.checked(), |row, _| {
                x_null[row] = true;
                any_null = true;
            });
            given.source.read(start..start + len, &mut given_lanes, CHECKED, |row, _| {
                r_null[row] = true;
                any_null = true;
            });
            if !any_null && given_lanes.chunks_exact(CHECKED).all(|lane| all_shares(&lane[..len])) {
                return;
            }
            for row in (0..len).filter(|row| weight[*row] > 0.0) {
                let mut numbers = (0..given.width()).map(|c| given_lanes[c * CHECKED + row]);
                if x_null[row] && nulls == Nulls::LeaveOut {
                    continue;
                }
                if x_null[row] != r_null[row] {
                    mismatch.add(start + row);
                } else if !r_null[row] && numbers.clone().any(|r| !r.is_finite()) {
                    not_finite.add(start + row);
                } else if !r_null[row] && numbers.any(|r| r < 0.0) {
                    negative.add(start + row);
                }
            }
        });
        let role = || given.role.clone();
        mismatch.or(|count, row| match nulls {
            Nulls::Agree => Error::NullMismatch { role: role(), count, row },
            Nulls::LeaveOut => Error::NullStart { role: role(), count, row },
        })?;
        let kind = "NaN or infinite";
        not_finite.or(|count, row| Error::Responsibilities { role: role(), kind, count, row })?;
        let kind = "negative";
        negative.or(|count, row| Error::Responsibilities { role: role(), kind, count, row })
    }

    /// The components of the rows that count, which their labels must tell; none for the other rows.
    ///
    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn labels(&self, column: &Column, k: usize, nulls: bool) -> Result<Vec<Option<u32>>> {
        let mut missing = Fault::default();
        let mut outside = Fault::default();
        let mut first = f64::NAN;
        let mut components = vec![None; self.n_rows];
        let mut labels = vec![0.0; self.checked()];
        self.for_each_chunk(|start, len, lanes, weight| {
            let (mut x_null, mut z_null) = (vec![false; len], vec![false; len]);
            self.source.read(start..start + len, lanes, self.checked(), |row, _| x_null[row] = true);
            column.lane.read(start..start + len, &mut labels, |row| z_null[row] = true);
            for row in (0..len).filter(|row| weight[*row] > 0.0 && !x_null[*row]) {
                let label = labels[row];
                if z_null[row] {
                    if !nulls {
                        missing.add(start + row);
                    }
                } else if label >= 0.0 && label < k as f64 && label.fract() == 0.0 {
                    components[start + row] = Some(label as u32);
                } else {
                    first = if outside.count == 0 { label } else { first };
                    outside.add(start + row);
                }
            }
        });
        let role = || column.role.clone();
        outside.or(|count, row| Error::Labels { role: role(), k, last: k - 1, count, row, got: first })?;
        missing.or(|count, row| Error::NullStart { role: role(), count, row })?;
        Ok(components)
    }

    fn check_weights(&self) -> Result<()> {
        let Some(Column { role, lane }) = &self.weight else {
            return Ok(());
        };
        let kinds = ["null", "negative", "NaN or infinite"];
        let mut faults = [Fault::default(); 3];
        let mut weight = vec![0.0; self.checked()];
        for start in (0..self.n_rows).step_by(CHECKED) {
            let len = CHECKED.min(self.n_rows - start);
            let mut is_null = vec![false; len];
            lane.read(start..start + len, &mut weight, |row| is_null[row] = true);
            for (row, w) in weight[..len].iter().enumerate() {
                if is_null[row] {
                    faults[0].add(start + row);
                } else if *w < 0.0 {
                    faults[1].add(start + row);
                } else if !w.is_finite() {
                    faults[2].add(start + row);
                }
            }
        }
        for (kind, fault) in kinds.into_iter().zip(faults) {
            fault.or(|count, row| Error::Weights { role: role.clone(), kind, count, row })?;
        }
        Ok(())
    }

    /// Length of a lane that is checked.
    fn checked(&self) -> usize {
        CHECKED.min(self.n_rows)
    }

    /// Calls `visit(start, len, room for the features, weights)` along all rows.
    fn for_each_chunk(&self, mut visit: impl FnMut(usize, usize, &mut [f64], &[f64])) {
        let mut lanes = vec![0.0; self.d() * self.checked()];
        let mut weight = vec![1.0; self.checked()];
        for start in (0..self.n_rows).step_by(CHECKED) {
            let len = CHECKED.min(self.n_rows - start);
            if let Some(Column { lane, .. }) = &self.weight {
                lane.read(start..start + len, &mut weight, |_| {});
            }
            visit(start, len, &mut lanes, &weight);
        }
    }
}
