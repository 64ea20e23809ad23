//! Rows and a model -> one output column, block by block, in parallel when there is enough to do.

#![allow(clippy::indexing_slicing)] // Rows are numbered within leaves that were allocated for them.

use std::sync::Arc;

use polars::prelude::{ArrayChunked, DataType, IntoSeries, ListChunked, PlSmallStr, Series};
use polars_arrow::array::{FixedSizeListArray, ListArray, PrimitiveArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::ArrowDataType;
use polars_arrow::offset::Offsets;
use rayon::prelude::*;

use super::cache::Factorised;
use super::columns::{Input, Table};
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

/// Scores of some rows: `width` numbers each, and whether the row is null.
struct Scores {
    width: usize,
    values: Vec<f64>,
    null: Vec<bool>,
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
                Score::Responsibilities { .. } => array_series(name, scores),
                _ => flat_series(name, vec![scores], what),
            }
        }
        Scorer::Column(column, models) => {
            let parts = score_by_column(input, column, models, what)?;
            match what {
                Score::Responsibilities { .. } => list_series(name, parts),
                _ => flat_series(name, parts, what),
            }
        }
    }
}

/// Runs of equal models are factorised once.
fn score_by_column(mut input: Input, column: &str, models: &Models, what: Score) -> Result<Vec<Scores>> {
    if input.len() == 1 && models.len() != 1 {
        input = input.broadcast(models.len());
    }
    let rows = input.len();
    if models.len() != rows && models.len() != 1 {
        return Err(Error::Lengths { models: models.len(), rows });
    }
    let mut starts = models.changes();
    starts.push(rows);
    let mut parts = Vec::with_capacity(starts.len());
    for run in starts.windows(2) {
        let part = input.slice(run[0], run[1] - run[0]);
        let in_model = |e: Error| e.in_column(column, run[0]).in_batch(0, rows);
        let given = models.get(run[0]).and_then(|model| model.map(Factorised::new).transpose());
        parts.push(match given.map_err(in_model)? {
            Some(Factorised { model, density }) => {
                let table = part.table(Some(model.features())).map_err(|e| e.in_batch(run[0], rows))?;
                score_by(&table, &density, what)
            }
            None => Scores::nulls(part.len()),
        });
    }
    Ok(parts)
}

impl Scores {
    fn nulls(len: usize) -> Self {
        Self { width: 0, values: Vec::new(), null: vec![true; len] }
    }
}

fn score_by(table: &Table, density: &Density, what: Score) -> Scores {
    let width = match what {
        Score::Responsibilities { .. } => density.k(),
        _ => 1,
    };
    let rows = table.n_rows();
    let mut scores = Scores { width, values: vec![0.0; rows * width], null: vec![false; rows] };
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

fn array_series(name: &PlSmallStr, scores: Scores) -> Result<Series> {
    let rows = scores.null.len();
    let numbers = PrimitiveArray::from_vec(scores.values);
    let dtype = FixedSizeListArray::default_datatype(ArrowDataType::Float64, scores.width);
    let array = FixedSizeListArray::try_new(dtype, rows, Box::new(numbers), validity(&scores.null))?;
    Ok(ArrayChunked::with_chunk(name.clone(), array).into_series())
}

fn list_series(name: &PlSmallStr, parts: Vec<Scores>) -> Result<Series> {
    let null: Vec<bool> = parts.iter().flat_map(|p| p.null.iter().copied()).collect();
    let widths = parts.iter().flat_map(|p| std::iter::repeat_n(p.width, p.null.len()));
    let offsets = Offsets::try_from_lengths(widths)?;
    let values: Vec<f64> = parts.into_iter().flat_map(|p| p.values).collect();
    let dtype = ListArray::<i64>::default_datatype(ArrowDataType::Float64);
    let numbers = Box::new(PrimitiveArray::from_vec(values));
    let array = ListArray::<i64>::try_new(dtype, offsets.into(), numbers, validity(&null))?;
    Ok(ListChunked::with_chunk(name.clone(), array).into_series())
}

fn flat_series(name: &PlSmallStr, parts: Vec<Scores>, what: Score) -> Result<Series> {
    let mut values = Vec::new();
    let mut null = Vec::new();
    for part in parts {
        if part.width == 0 {
            values.resize(values.len() + part.null.len(), 0.0);
        }
        values.extend(part.values);
        null.extend(part.null);
    }
    let validity = validity(&null);
    if what == Score::Predict {
        let labels: Vec<u32> = values.iter().map(|c| *c as u32).collect();
        let array = PrimitiveArray::from_vec(labels).with_validity(validity);
        return Ok(Series::from_arrow(name.clone(), Box::new(array))?);
    }
    let array = PrimitiveArray::from_vec(values).with_validity(validity);
    Ok(Series::from_arrow(name.clone(), Box::new(array))?)
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
