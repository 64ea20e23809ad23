//! Rows and a model -> one output column, block by block, in parallel when there is enough to do.

#![allow(clippy::indexing_slicing)] // Rows are numbered within leaves that were allocated for them.

use std::ops::Range;
use std::sync::Arc;

use polars::prelude::{ArrayChunked, DataType, IdxSize, IntoSeries, ListChunked, PlSmallStr, Series};
use polars_arrow::array::{FixedSizeListArray, ListArray, PrimitiveArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::offset::Offsets;
use polars_arrow::types::NativeType;
use rayon::prelude::*;

use super::cache::Factorised;
use super::columns::{Input, Table};
use super::distinct::Distinct;
use super::error::{Error, Result};
use super::pages::zeros;
use super::train::{execution, in_pool};
use super::values::Models;
use crate::mixture::rows::RowState;
use crate::mixture::shapes::block_rows;
use crate::mixture::{Block, Density, Execution, Rows};

/// What is asked of each row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Score {
    Responsibilities { log: bool },
    Predict,
    LogDensity,
}

/// A model for all rows, or one for each.
pub enum Scorer {
    One(Arc<Factorised>),
    Column(PlSmallStr, Models),
}

/// How rows are scored: a block at a time, into the buffer that becomes the column.
trait Asked: Copy + Sync {
    type Value: NativeType;

    /// Values of a row under a model of `k` components.
    fn width(self, k: usize) -> usize;

    /// Writes the values of the rows of a block.
    fn write(self, density: &Density, block: &mut Block, values: &mut [Self::Value]);

    /// Whether a row that is not finite can say so; else it is null.
    fn mark_not_finite(values: &mut [Self::Value]) -> bool;

    /// The column of all rows of an input that one model of `k` components scored.
    fn column(self, name: &PlSmallStr, scores: Scores<Self::Value>, k: usize) -> Result<Series>;

    /// The column of rows that models of any k scored, part by part.
    fn column_of_parts(self, name: &PlSmallStr, parts: Vec<Scores<Self::Value>>) -> Result<Series>;
}

#[derive(Clone, Copy)]
struct Responsibilities {
    log: bool,
}

impl Asked for Responsibilities {
    type Value = f64;

    fn width(self, k: usize) -> usize {
        k
    }

    fn write(self, density: &Density, block: &mut Block, values: &mut [f64]) {
        if self.log {
            density.log_responsibilities(block);
        } else {
            density.responsibilities(block);
        }
        block.write_rows(values);
    }

    fn mark_not_finite(values: &mut [f64]) -> bool {
        values.fill(f64::NAN);
        true
    }

    fn column(self, name: &PlSmallStr, scores: Scores<f64>, k: usize) -> Result<Series> {
        array_series(name, scores, k)
    }

    fn column_of_parts(self, name: &PlSmallStr, parts: Vec<Scores<f64>>) -> Result<Series> {
        list_series(name, parts)
    }
}

#[derive(Clone, Copy)]
struct LogDensity;

impl Asked for LogDensity {
    type Value = f64;

    fn width(self, _: usize) -> usize {
        1
    }

    fn write(self, density: &Density, block: &mut Block, values: &mut [f64]) {
        density.log_density(block);
        values.copy_from_slice(block.log_density());
    }

    fn mark_not_finite(values: &mut [f64]) -> bool {
        values.fill(f64::NAN);
        true
    }

    fn column(self, name: &PlSmallStr, scores: Scores<f64>, _: usize) -> Result<Series> {
        flat_series(name, vec![scores])
    }

    fn column_of_parts(self, name: &PlSmallStr, parts: Vec<Scores<f64>>) -> Result<Series> {
        flat_series(name, parts)
    }
}

#[derive(Clone, Copy)]
struct MostProbable;

impl Asked for MostProbable {
    type Value = u32;

    fn width(self, _: usize) -> usize {
        1
    }

    fn write(self, density: &Density, block: &mut Block, values: &mut [u32]) {
        density.most_probable(block, values);
    }

    fn mark_not_finite(_: &mut [u32]) -> bool {
        false
    }

    fn column(self, name: &PlSmallStr, scores: Scores<u32>, _: usize) -> Result<Series> {
        flat_series(name, vec![scores])
    }

    fn column_of_parts(self, name: &PlSmallStr, parts: Vec<Scores<u32>>) -> Result<Series> {
        flat_series(name, parts)
    }
}

/// Scores of some rows, and whether the row is null.
struct Scores<T> {
    width: Width,
    values: Vec<T>,
    null: Vec<bool>,
}

/// How many numbers a row has.
enum Width {
    All(usize),
    Each(Vec<usize>),
}

/// Scores the rows of the input.
///
/// # Errors
/// Wrong dtypes, a model that is none or singular, or lengths that differ.
pub fn score(name: &PlSmallStr, input: Input, scorer: &Scorer, what: Score) -> Result<Series> {
    match what {
        Score::Responsibilities { log } => score_as(name, input, scorer, Responsibilities { log }),
        Score::Predict => score_as(name, input, scorer, MostProbable),
        Score::LogDensity => score_as(name, input, scorer, LogDensity),
    }
}

fn score_as(name: &PlSmallStr, input: Input, scorer: &Scorer, asked: impl Asked) -> Result<Series> {
    match scorer {
        Scorer::One(given) => {
            let features = Some(given.model.features());
            let table = input.table(features).map_err(|e| e.in_batch(0, input.len()))?;
            asked.column(name, score_by(&table, &given.density, asked), given.density.k())
        }
        Scorer::Column(column, models) => score_by_column(name, input, column, models, asked),
    }
}

/// Rows of a column of models that are scored together.
const WINDOW: usize = 1 << 17;
/// Windows whose runs of one model are as long as this on average, or as few, are not sorted by model.
const LONG_RUN: usize = 256;

/// Each model is factorised once. Where models change from row to row, the rows of a window are sorted by them. Windows
/// become chunks of the output, so that nothing is held twice.
fn score_by_column<A: Asked>(
    name: &PlSmallStr,
    mut input: Input,
    column: &str,
    models: &Models,
    asked: A,
) -> Result<Series> {
    if input.len() == 1 && models.len() != 1 {
        input = input.broadcast(models.len());
    }
    let rows = input.len();
    if models.len() != rows && models.len() != 1 {
        return Err(Error::Lengths { models: models.len(), rows });
    }
    let Distinct { first, mut number } = models.distinct();
    let given = |row: &usize| {
        models.factorised(*row).map_err(|error| error.in_column(column, *row).in_batch(0, rows))
    };
    let models = first.iter().map(given).collect::<Result<Vec<_>>>()?;
    if number.len() != rows {
        number = number.repeat(rows);
    }
    let window = |start: usize| {
        let number = &number[start..rows.min(start + WINDOW)];
        asked.column_of_parts(name, Window { input: &input, start, number, models: &models, asked }.score()?)
    };
    let starts = (0..rows).step_by(WINDOW);
    let chunks: Vec<Result<Series>> = if rows > WINDOW {
        in_pool(|| starts.collect::<Vec<_>>().into_par_iter().map(window).collect())
    } else {
        starts.map(window).collect()
    };
    let mut chunks = chunks.into_iter();
    let mut scored = chunks.next().unwrap_or_else(|| asked.column_of_parts(name, Vec::new()))?;
    for chunk in chunks {
        scored.append_owned(chunk?)?;
    }
    Ok(scored)
}

/// Some rows of the input, the number of the model of each, and the models.
struct Window<'a, A> {
    input: &'a Input,
    start: usize,
    number: &'a [u32],
    models: &'a [Option<Arc<Factorised>>],
    asked: A,
}

impl<A: Asked> Window<'_, A> {
    fn score(&self) -> Result<Vec<Scores<A::Value>>> {
        let len = self.number.len();
        let runs = runs(self.number.iter());
        if runs.len() <= len.div_ceil(LONG_RUN) {
            return self.score_runs(&runs);
        }
        let mut order: Vec<IdxSize> = (0..len as IdxSize).collect();
        order.sort_by_key(|row| self.number[*row as usize]);
        let sorted = self::runs(order.iter().map(|row| &self.number[*row as usize]));
        if 2 * sorted.len() > runs.len() {
            return self.score_runs(&runs);
        }
        let input = self.input.slice(self.start, len).gather(&order)?;
        let score = |run: &Range<usize>| {
            let number = self.number[order[run.start] as usize];
            self.score_run(&input.slice(run.start, run.len()), number)
        };
        match sorted.iter().map(score).collect::<Result<Vec<_>>>() {
            Ok(parts) => Ok(vec![scattered(parts, &order)]),
            // What is wrong is told by the row where it stands.
            Err(_) => self.score_runs(&runs),
        }
    }

    fn score_runs(&self, runs: &[Range<usize>]) -> Result<Vec<Scores<A::Value>>> {
        let score = |run: &Range<usize>| {
            let part = self.input.slice(self.start + run.start, run.len());
            let scores = self.score_run(&part, self.number[run.start]);
            scores.map_err(|e| e.in_batch(self.start + run.start, self.input.len()))
        };
        runs.iter().map(score).collect()
    }

    fn score_run(&self, part: &Input, number: u32) -> Result<Scores<A::Value>> {
        match &self.models[number as usize] {
            Some(given) => {
                Ok(score_by(&part.table(Some(given.model.features()))?, &given.density, self.asked))
            }
            None => Ok(Scores::nulls(part.len())),
        }
    }
}

/// Ranges of equal numbers.
fn runs<'a>(mut numbers: impl Iterator<Item = &'a u32>) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let Some(mut last) = numbers.next() else { return runs };
    let (mut start, mut end) = (0, 1);
    for number in numbers {
        if number != last {
            runs.push(start..end);
            (start, last) = (end, number);
        }
        end += 1;
    }
    runs.push(start..end);
    runs
}

/// Scores of sorted rows, put back where they came from.
fn scattered<T: Copy>(parts: Vec<Scores<T>>, order: &[IdxSize]) -> Scores<T> {
    let mut place = vec![(0, 0); order.len()];
    let mut null = vec![false; order.len()];
    let mut sorted = Vec::new();
    let mut rows = order.iter();
    for part in parts {
        let mut begin = sorted.len();
        sorted.extend(part.values);
        for (i, (is_null, row)) in part.null.into_iter().zip(&mut rows).enumerate() {
            let width = part.width.of(i);
            place[*row as usize] = (begin, width);
            null[*row as usize] = is_null;
            begin += width;
        }
    }
    let values = place.iter().flat_map(|(begin, width)| &sorted[*begin..*begin + *width]).copied().collect();
    Scores { width: Width::Each(place.into_iter().map(|(_, width)| width).collect()), values, null }
}

impl Width {
    fn of(&self, row: usize) -> usize {
        match self {
            Self::All(width) => *width,
            Self::Each(widths) => widths[row],
        }
    }
}

impl<T> Scores<T> {
    fn nulls(len: usize) -> Self {
        Self { width: Width::All(0), values: Vec::new(), null: vec![true; len] }
    }

    fn widths(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.null.len()).map(|row| self.width.of(row))
    }
}

fn score_by<A: Asked>(table: &Table, density: &Density, asked: A) -> Scores<A::Value> {
    let (rows, width) = (table.n_rows(), asked.width(density.k()));
    let mut scores =
        Scores { width: Width::All(width), values: zeros(rows * width), null: vec![false; rows] };
    let size = block_rows(density.d(), density.k());
    let some = |block: &mut Block, (i, (values, null)): (usize, (&mut [A::Value], &mut [bool]))| {
        block.load(table, i * size, null.len(), density.k());
        asked.write(density, block, values);
        mark::<A>(block, values, null);
    };
    let (values, null) = (&mut scores.values, &mut scores.null);
    match execution(rows, density) {
        Execution::Parallel => {
            let blocks = values.par_chunks_mut(size * width).zip(null.par_chunks_mut(size)).enumerate();
            in_pool(|| blocks.for_each_init(Block::default, some));
        }
        Execution::Sequential => {
            let mut block = Block::default();
            let blocks = values.chunks_mut(size * width).zip(null.chunks_mut(size)).enumerate();
            blocks.for_each(|part| some(&mut block, part));
        }
    }
    scores
}

/// Heeds rows that are null or not finite.
fn mark<A: Asked>(block: &Block, values: &mut [A::Value], null: &mut [bool]) {
    let width = values.len() / null.len().max(1);
    for (i, state) in block.state().iter().enumerate() {
        null[i] = match state {
            RowState::Valid => continue,
            RowState::Null => true,
            RowState::NotFinite => !A::mark_not_finite(&mut values[i * width..][..width]),
        };
    }
}

fn validity(null: &[bool]) -> Option<Bitmap> {
    null.contains(&true).then(|| null.iter().map(|n| !n).collect())
}

fn array_series(name: &PlSmallStr, scores: Scores<f64>, width: usize) -> Result<Series> {
    let rows = scores.null.len();
    let numbers = PrimitiveArray::from_vec(scores.values);
    let dtype = FixedSizeListArray::default_datatype(ArrowDataType::Float64, width);
    let array = FixedSizeListArray::try_new(dtype, rows, Box::new(numbers), validity(&scores.null))?;
    Ok(ArrayChunked::with_chunk(name.clone(), array).into_series())
}

fn list_series(name: &PlSmallStr, parts: Vec<Scores<f64>>) -> Result<Series> {
    let null: Vec<bool> = parts.iter().flat_map(|p| p.null.iter().copied()).collect();
    let offsets = Offsets::try_from_lengths(parts.iter().flat_map(Scores::widths))?;
    let values: Vec<f64> = parts.into_iter().flat_map(|p| p.values).collect();
    let dtype = ListArray::<i64>::default_datatype(ArrowDataType::Float64);
    let numbers = Box::new(PrimitiveArray::from_vec(values));
    let array = ListArray::<i64>::try_new(dtype, offsets.into(), numbers, validity(&null))?;
    Ok(ListChunked::with_chunk(name.clone(), array).into_series())
}

fn flat_series<T: NativeType>(name: &PlSmallStr, parts: Vec<Scores<T>>) -> Result<Series> {
    let null: Vec<bool> = parts.iter().flat_map(|part| part.null.iter().copied()).collect();
    let array = PrimitiveArray::from_vec(flat(parts)).with_validity(validity(&null));
    Ok(Series::from_arrow(name.clone(), Box::new(array))?)
}

/// One value for each row; rows without a model have any.
fn flat<T: NativeType>(mut parts: Vec<Scores<T>>) -> Vec<T> {
    if let [Scores { width: Width::All(1), values, .. }] = parts.as_mut_slice() {
        return std::mem::take(values);
    }
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.null.len()).sum());
    for part in parts {
        let mut own = part.values.iter().copied();
        let each = part.widths().map(|width| if width == 0 { None } else { own.next() });
        values.extend(each.map(Option::unwrap_or_default));
    }
    values
}

/// The dtype of a score by a model of `k` components, or by models of unknown k.
pub fn score_dtype(what: Score, k: Option<usize>) -> DataType {
    match (what, k) {
        (Score::Responsibilities { .. }, Some(k)) => DataType::Array(Box::new(DataType::Float64), k),
        (Score::Responsibilities { .. }, None) => DataType::List(Box::new(DataType::Float64)),
        (Score::Predict, _) => DataType::UInt32,
        (Score::LogDensity, _) => DataType::Float64,
    }
}
