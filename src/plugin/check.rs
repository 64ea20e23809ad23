//! The checks of data: weights, features, responsibilities and labels, with the rows at fault counted and named.

#![allow(clippy::indexing_slicing)] // Rows are numbered within chunks that were allocated for them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::columns::{Column, Given, Table};
use super::error::{Error, Result, Role};
use crate::mixture::simd::all_shares;
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

    fn merge(&mut self, other: Self) {
        if self.count == 0 || (other.count > 0 && other.first < self.first) {
            self.first = other.first;
        }
        self.count += other.count;
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

/// Faults in the weights and features of rows that weigh more than nothing.
#[derive(Default)]
pub struct Faults {
    /// Weights that are null, negative, or NaN or infinite.
    weights: [Fault; 3],
    null: Vec<Fault>,
    not_finite: Vec<Fault>,
    /// Rows that count: of positive weight, without nulls.
    n_rows: usize,
}

impl Faults {
    /// Adds what was found in other rows.
    pub fn merge(&mut self, other: Self) {
        merge(&mut self.weights, &other.weights);
        self.null.resize(other.null.len(), Fault::default());
        merge(&mut self.null, &other.null);
        self.not_finite.resize(other.not_finite.len(), Fault::default());
        merge(&mut self.not_finite, &other.not_finite);
        self.n_rows += other.n_rows;
    }

    /// The number of rows that count; nulls are faults only with `nulls`.
    ///
    /// # Errors
    /// The first column at fault, with the number of faults and the first row.
    pub fn check(self, features: &[String], weight: Option<&Role>, nulls: bool) -> Result<usize> {
        check_weights(self.weights, weight)?;
        for (name, (null, not_finite)) in features.iter().zip(self.null.into_iter().zip(self.not_finite)) {
            if nulls {
                null.or(|count, row| Error::Nulls { name: name.clone(), count, row })?;
            }
            not_finite.or(|count, row| Error::NotFinite { name: name.clone(), count, row })?;
        }
        Ok(self.n_rows)
    }
}

fn check_weights(faults: [Fault; 3], weight: Option<&Role>) -> Result<()> {
    let Some(role) = weight else {
        return Ok(());
    };
    for (kind, fault) in ["null", "negative", "NaN or infinite"].into_iter().zip(faults) {
        fault.or(|count, row| Error::Weights { role: role.clone(), kind, count, row })?;
    }
    Ok(())
}

fn merge(faults: &mut [Fault], others: &[Fault]) {
    for (fault, other) in faults.iter_mut().zip(others) {
        fault.merge(*other);
    }
}

/// Faults in the labels of rows that count.
#[derive(Default)]
pub struct LabelFaults {
    missing: Fault,
    outside: Fault,
    /// The first label outside.
    got: f64,
}

impl LabelFaults {
    /// Adds what was found in other rows.
    pub fn merge(&mut self, other: &Self) {
        if self.outside.count == 0 || (other.outside.count > 0 && other.outside.first < self.outside.first) {
            self.got = other.got;
        }
        self.outside.merge(other.outside);
        self.missing.merge(other.missing);
    }

    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn check(self, role: &Role, k: usize) -> Result<()> {
        let (role, got) = (|| role.clone(), self.got);
        self.outside.or(|count, row| Error::Labels { role: role(), k, last: k - 1, count, row, got })?;
        self.missing.or(|count, row| Error::NullStart { role: role(), count, row })
    }
}

/// Faults in given responsibilities.
#[derive(Default)]
pub struct StartFaults {
    /// Null where the features are not, or the other way round.
    missing: Fault,
    not_finite: Fault,
    negative: Fault,
}

impl StartFaults {
    /// Adds what was found in other rows.
    pub fn merge(&mut self, other: &Self) {
        self.missing.merge(other.missing);
        self.not_finite.merge(other.not_finite);
        self.negative.merge(other.negative);
    }

    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn check(self, role: &Role, nulls: Nulls) -> Result<()> {
        let role = || role.clone();
        self.missing.or(|count, row| match nulls {
            Nulls::Agree => Error::NullMismatch { role: role(), count, row },
            Nulls::LeaveOut => Error::NullStart { role: role(), count, row },
        })?;
        let kind = "NaN or infinite";
        self.not_finite.or(|count, row| Error::Responsibilities { role: role(), kind, count, row })?;
        let kind = "negative";
        self.negative.or(|count, row| Error::Responsibilities { role: role(), kind, count, row })
    }
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

    fn by_row(&self) -> bool {
        true
    }

    fn lying(&self, rows: Range<usize>) -> Option<&[f64]> {
        let lying = self.given.lying(rows.clone())?;
        if !lying.get(..rows.len() * self.k()).is_some_and(all_shares) {
            self.suspect.store(true, Ordering::Relaxed);
        }
        Some(lying)
    }
}

impl Table {
    /// Checks the weights of all rows; returns the number of those that weigh more than nothing.
    ///
    /// # Errors
    /// The number of weights at fault and the first row.
    pub fn weighing(&self) -> Result<usize> {
        let (faults, count) = self.weight_faults(0);
        check_weights(faults, self.weight_role())?;
        Ok(count)
    }

    /// Checks weights and features of all rows that weigh more than nothing; nulls are faults only with `nulls`.
    /// Returns the number of rows that count.
    ///
    /// # Errors
    /// The first column at fault, with the number of faults and the first row.
    pub fn check(&self, nulls: bool) -> Result<usize> {
        self.faults(0).check(&self.features, self.weight_role(), nulls)
    }

    /// What the weights are called, if there are any.
    pub fn weight_role(&self) -> Option<&Role> {
        self.weight.as_ref().map(|column| &column.role)
    }

    /// The faults of all rows, which are numbered from `first` on.
    pub fn faults(&self, first: usize) -> Faults {
        let d = self.d();
        let (weights, _) = self.weight_faults(first);
        let mut faults = Faults {
            weights,
            null: vec![Fault::default(); d],
            not_finite: vec![Fault::default(); d],
            n_rows: 0,
        };
        self.for_each_chunk(|start, len, lanes, weight| {
            let mut is_null = vec![false; len];
            self.source.read(start..start + len, lanes, self.checked(), |row, j| {
                if weight[row] > 0.0 {
                    faults.null[j].add(first + start + row);
                }
                is_null[row] = true;
            });
            for (lane, fault) in lanes.chunks_exact(self.checked()).zip(&mut faults.not_finite) {
                let lane = &lane[..len];
                if all_finite(lane) {
                    continue;
                }
                for (row, x) in lane.iter().enumerate() {
                    if !x.is_finite() && !is_null[row] && weight[row] > 0.0 {
                        fault.add(first + start + row);
                    }
                }
            }
            faults.n_rows += weight.iter().zip(&is_null).filter(|(w, null)| **w > 0.0 && !**null).count();
        });
        faults
    }

    /// Checks given responsibilities beside the features: numbers >= 0, and null in the same rows, or only there if
    /// rows with a null feature do not count.
    ///
    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn check_responsibilities(&self, given: &Given, nulls: Nulls) -> Result<()> {
        self.start_faults(given, nulls, 0).check(&given.role, nulls)
    }

    /// The faults of given responsibilities, whose rows are numbered from `first` on.
    pub fn start_faults(&self, given: &Given, nulls: Nulls, first: usize) -> StartFaults {
        let mut faults = StartFaults::default();
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
                let number = first + start + row;
                if x_null[row] && nulls == Nulls::LeaveOut {
                    continue;
                }
                if x_null[row] != r_null[row] {
                    faults.missing.add(number);
                } else if !r_null[row] && numbers.clone().any(|r| !r.is_finite()) {
                    faults.not_finite.add(number);
                } else if !r_null[row] && numbers.any(|r| r < 0.0) {
                    faults.negative.add(number);
                }
            }
        });
        faults
    }

    /// The components of the rows that count, which their labels must tell; none for the other rows.
    ///
    /// # Errors
    /// The number of rows at fault and the first of them.
    pub fn labels(&self, column: &Column, k: usize, nulls: bool) -> Result<Vec<Option<u32>>> {
        let (components, faults) = self.label_faults(column, k, nulls, 0);
        faults.check(&column.role, k)?;
        Ok(components)
    }

    /// The components of the rows, numbered from `first` on, and the faults in them.
    pub fn label_faults(
        &self,
        column: &Column,
        k: usize,
        nulls: bool,
        first: usize,
    ) -> (Vec<Option<u32>>, LabelFaults) {
        let mut faults = LabelFaults::default();
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
                        faults.missing.add(first + start + row);
                    }
                } else if label >= 0.0 && label < k as f64 && label.fract() == 0.0 {
                    components[start + row] = Some(label as u32);
                } else {
                    faults.got = if faults.outside.count == 0 { label } else { faults.got };
                    faults.outside.add(first + start + row);
                }
            }
        });
        (components, faults)
    }

    /// The faults in the weights, and the number of those above zero.
    fn weight_faults(&self, first: usize) -> ([Fault; 3], usize) {
        let (mut faults, mut count) = ([Fault::default(); 3], 0);
        let Some(Column { lane, .. }) = &self.weight else {
            return (faults, self.n_rows);
        };
        let mut weight = vec![0.0; self.checked()];
        let mut null = Vec::new();
        for start in (0..self.n_rows).step_by(CHECKED) {
            let weight = &mut weight[..CHECKED.min(self.n_rows - start)];
            null.clear();
            lane.read(start..start + weight.len(), weight, |row| null.push(row));
            count += weight.iter().filter(|w| **w > 0.0).count();
            if null.is_empty() && all_shares(weight) {
                continue;
            }
            for row in &null {
                faults[0].add(first + start + row);
                // What a null holds is no weight.
                weight[*row] = 0.0;
            }
            for (row, w) in weight.iter().enumerate() {
                if *w < 0.0 {
                    faults[1].add(first + start + row);
                } else if !w.is_finite() {
                    faults[2].add(first + start + row);
                }
            }
        }
        (faults, count)
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
