//! Rows and a model -> one output column, block by block, in parallel when there is enough to do.

#![allow(clippy::indexing_slicing)] // Rows are numbered within leaves that were allocated for them.

use std::ops::Range;
use std::sync::Arc;

use polars::prelude::{ArrayChunked, DataType, IdxSize, IntoSeries, ListChunked, PlSmallStr, Series};
use polars_arrow::array::{Array, FixedSizeListArray, ListArray, PrimitiveArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::offset::Offsets;
use rayon::prelude::*;

use super::cache::Factorised;
use super::columns::{Input, Table};
use super::distinct::Distinct;
use super::error::{Error, Result};
use super::train::{execution, in_pool};
use super::values::Models;
use crate::mixture::pass::block_rows;
use crate::mixture::rows::RowState;
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

/// Scores of some rows, and whether the row is null.
struct Scores {
    width: Width,
    values: Vec<f64>,
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
    match scorer {
        Scorer::One(given) => {
            let features = Some(given.model.features());
            let table = input.table(features).map_err(|e| e.in_batch(0, input.len()))?;
            let scores = score_by(&table, &given.density, what);
            match what {
                Score::Responsibilities { .. } => array_series(name, scores, given.density.k()),
                _ => flat_series(name, vec![scores], what),
            }
        }
        Scorer::Column(column, models) => score_by_column(name, input, column, models, what),
    }
}

/// Rows of a column of models that are scored together.
const WINDOW: usize = 1 << 17;
/// Windows whose runs of one model are as long as this on average, or as few, are not sorted by model.
const LONG_RUN: usize = 256;

/// Each model is factorised once. Where models change from row to row, the rows of a window are sorted by them. Windows
/// become chunks of the output, so that nothing is held twice.
fn score_by_column(
    name: &PlSmallStr,
    mut input: Input,
    column: &str,
    models: &Models,
    what: Score,
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
    let series = |parts: Vec<Scores>| match what {
        Score::Responsibilities { .. } => list_series(name, parts),
        _ => flat_series(name, parts, what),
    };
    let window = |start: usize| {
        let number = &number[start..rows.min(start + WINDOW)];
        series(Window { input: &input, start, number, models: &models, what }.score()?)
    };
    let starts = (0..rows).step_by(WINDOW);
    let chunks: Vec<Result<Series>> = if rows > WINDOW {
        in_pool(|| starts.collect::<Vec<_>>().into_par_iter().map(window).collect())
    } else {
        starts.map(window).collect()
    };
    let mut chunks = chunks.into_iter();
    let mut scored = chunks.next().unwrap_or_else(|| series(Vec::new()))?;
    for chunk in chunks {
        scored.append_owned(chunk?)?;
    }
    Ok(scored)
}

/// Some rows of the input, the number of the model of each, and the models.
struct Window<'a> {
    input: &'a Input,
    start: usize,
    number: &'a [u32],
    models: &'a [Option<Arc<Factorised>>],
    what: Score,
}

impl Window<'_> {
    fn score(&self) -> Result<Vec<Scores>> {
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

    fn score_runs(&self, runs: &[Range<usize>]) -> Result<Vec<Scores>> {
        let score = |run: &Range<usize>| {
            let part = self.input.slice(self.start + run.start, run.len());
            let scores = self.score_run(&part, self.number[run.start]);
            scores.map_err(|e| e.in_batch(self.start + run.start, self.input.len()))
        };
        runs.iter().map(score).collect()
    }

    fn score_run(&self, part: &Input, number: u32) -> Result<Scores> {
        match &self.models[number as usize] {
            Some(given) => {
                Ok(score_by(&part.table(Some(given.model.features()))?, &given.density, self.what))
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
fn scattered(parts: Vec<Scores>, order: &[IdxSize]) -> Scores {
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

impl Scores {
    fn nulls(len: usize) -> Self {
        Self { width: Width::All(0), values: Vec::new(), null: vec![true; len] }
    }

    fn widths(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.null.len()).map(|row| self.width.of(row))
    }
}

fn score_by(table: &Table, density: &Density, what: Score) -> Scores {
    let width = match what {
        Score::Responsibilities { .. } => density.k(),
        _ => 1,
    };
    let rows = table.n_rows();
    let mut scores =
        Scores { width: Width::All(width), values: vec![0.0; rows * width], null: vec![false; rows] };
    let size = block_rows(density.d(), density.k());
    let values = scores.values.par_chunks_mut(size * width);
    let leaves = values.zip(scores.null.par_chunks_mut(size)).enumerate();
    let leaf = |block: &mut Block, (i, (values, null)): (usize, (&mut [f64], &mut [bool]))| {
        score_leaf(table, density, what, i * size, block, values, null);
    };
    match execution(rows, density) {
        Execution::Parallel => in_pool(|| leaves.for_each_init(Block::default, leaf)),
        Execution::Sequential => {
            let mut block = Block::default();
            let values = scores.values.chunks_mut(size * width);
            values.zip(scores.null.chunks_mut(size)).enumerate().for_each(|part| leaf(&mut block, part));
        }
    }
    scores
}

fn score_leaf(
    table: &Table,
    density: &Density,
    what: Score,
    start: usize,
    block: &mut Block,
    values: &mut [f64],
    null: &mut [bool],
) {
    block.load(table, start, null.len(), density.k());
    match what {
        Score::Responsibilities { log: false } | Score::LogDensity => density.responsibilities(block),
        Score::Responsibilities { log: true } => density.log_responsibilities(block),
        Score::Predict => density.log_joint(block),
    }
    match what {
        Score::Responsibilities { .. } => transpose(block, values),
        Score::LogDensity => values.copy_from_slice(block.log_density()),
        Score::Predict => most_probable(block, values),
    }
    let width = values.len() / null.len().max(1);
    for (i, state) in block.state().iter().enumerate() {
        match state {
            RowState::Valid => {}
            RowState::Null => null[i] = true,
            RowState::NotFinite if what == Score::Predict => null[i] = true,
            RowState::NotFinite => values[i * width..][..width].fill(f64::NAN),
        }
    }
}

fn transpose(block: &Block, values: &mut [f64]) {
    let k = block.k();
    for c in 0..k {
        for (row, r) in values.chunks_exact_mut(k).zip(block.component(c)) {
            row[c] = *r;
        }
    }
}

/// The first component of largest joint density.
fn most_probable(block: &mut Block, values: &mut [f64]) {
    let mut largest = vec![f64::NEG_INFINITY; block.len()];
    for c in 0..block.k() {
        for ((joint, largest), value) in block.component(c).iter().zip(&mut largest).zip(values.iter_mut()) {
            if joint > largest {
                *largest = *joint;
                *value = c as f64;
            }
        }
    }
}

fn validity(null: &[bool]) -> Option<Bitmap> {
    null.contains(&true).then(|| null.iter().map(|n| !n).collect())
}

fn array_series(name: &PlSmallStr, scores: Scores, width: usize) -> Result<Series> {
    let rows = scores.null.len();
    let numbers = PrimitiveArray::from_vec(scores.values);
    let dtype = FixedSizeListArray::default_datatype(ArrowDataType::Float64, width);
    let array = FixedSizeListArray::try_new(dtype, rows, Box::new(numbers), validity(&scores.null))?;
    Ok(ArrayChunked::with_chunk(name.clone(), array).into_series())
}

fn list_series(name: &PlSmallStr, parts: Vec<Scores>) -> Result<Series> {
    let null: Vec<bool> = parts.iter().flat_map(|p| p.null.iter().copied()).collect();
    let offsets = Offsets::try_from_lengths(parts.iter().flat_map(Scores::widths))?;
    let values: Vec<f64> = parts.into_iter().flat_map(|p| p.values).collect();
    let dtype = ListArray::<i64>::default_datatype(ArrowDataType::Float64);
    let numbers = Box::new(PrimitiveArray::from_vec(values));
    let array = ListArray::<i64>::try_new(dtype, offsets.into(), numbers, validity(&null))?;
    Ok(ListChunked::with_chunk(name.clone(), array).into_series())
}

fn flat_series(name: &PlSmallStr, parts: Vec<Scores>, what: Score) -> Result<Series> {
    let null: Vec<bool> = parts.iter().flat_map(|part| part.null.iter().copied()).collect();
    let validity = validity(&null);
    let array: Box<dyn Array> = if what == Score::Predict {
        Box::new(PrimitiveArray::from_vec(flat(parts, |label| label as u32)).with_validity(validity))
    } else {
        Box::new(PrimitiveArray::from_vec(flat(parts, |value| value)).with_validity(validity))
    };
    Ok(Series::from_arrow(name.clone(), array)?)
}

/// One value for each row; rows without a model have any.
fn flat<T: Default + Clone>(parts: Vec<Scores>, value: impl Fn(f64) -> T) -> Vec<T> {
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.null.len()).sum());
    for part in parts {
        let mut numbers = part.values.iter().map(|x| value(*x));
        let each =
            part.widths()
                .map(|width| if width == 0 { T::default() } else { numbers.next().unwrap_or_default() });
        values.extend(each);
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
