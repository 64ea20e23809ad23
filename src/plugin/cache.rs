//! Models ready for evaluation. Kept are the last ones that came in kwargs, whose bytes Polars hands to every batch and
//! every group, and those met in packed columns, which come again with every batch of a join.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::distinct::Words;
use super::error::Result;
use crate::mixture::{codec, Density, Model};

/// A model and its factors.
pub struct Factorised {
    pub model: Model,
    pub density: Density,
}

/// Models of kwargs that are kept, and their bytes together: with models and factors they take about three times as many.
const KEPT: usize = 8;
const BYTES: usize = 1 << 23;

/// Bytes and what they were unpacked to, the last used first.
type Recent = VecDeque<(Vec<u8>, Arc<Factorised>)>;

static RECENT: Mutex<Recent> = Mutex::new(VecDeque::new());

impl Factorised {
    /// # Errors
    /// If a covariance is singular.
    pub fn new(model: Model) -> Result<Self> {
        Ok(Self { density: model.density()?, model })
    }

    /// The model of these bytes. Bytes are compared whole, so that what is kept cannot be another's.
    ///
    /// # Errors
    /// If the bytes are no model, or a covariance is singular.
    pub fn unpack(bytes: &[u8]) -> Result<Arc<Self>> {
        if let Some(found) = find(bytes) {
            return Ok(found);
        }
        let made = Arc::new(Self::new(codec::unpack(bytes)?)?);
        if bytes.len() <= BYTES {
            keep(bytes.to_vec(), &made);
        }
        Ok(made)
    }

    /// The same for a model of a column, of which there may be thousands.
    ///
    /// # Errors
    /// If the bytes are no model, or a covariance is singular.
    pub fn recall(bytes: &[u8]) -> Result<Arc<Self>> {
        if let Some(found) = met().models.get(bytes) {
            return Ok(found.clone());
        }
        let made = Arc::new(Self::new(codec::unpack(bytes)?)?);
        let mut met = met();
        if met.bytes + bytes.len() > MOST {
            *met = Met::default();
        }
        if bytes.len() <= LARGEST && met.models.insert(bytes.into(), made.clone()).is_none() {
            met.bytes += bytes.len();
        }
        Ok(made)
    }
}

fn met() -> MutexGuard<'static, Met> {
    MET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Models met in packed columns, which come again with every batch, and the bytes they are known by.
#[derive(Default)]
struct Met {
    models: HashMap<Box<[u8]>, Arc<Factorised>, BuildHasherDefault<Words>>,
    bytes: usize,
}

/// Bytes of the models of columns that are kept; when they are more, all of them go. And those of the largest.
const MOST: usize = 1 << 23;
const LARGEST: usize = 1 << 20;

static MET: LazyLock<Mutex<Met>> = LazyLock::new(Mutex::default);

/// No caller panics while it holds the lock, and what it guards is complete at any time.
fn recent() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of those used longest ago.
fn keep(bytes: Vec<u8>, made: &Arc<Factorised>) {
    let mut recent = recent();
    recent.push_front((bytes, made.clone()));
    let mut total = 0;
    let fit = recent.iter().take(KEPT).take_while(|(kept, _)| {
        total += kept.len();
        total <= BYTES
    });
    let fit = fit.count();
    recent.truncate(fit);
}

fn find(bytes: &[u8]) -> Option<Arc<Factorised>> {
    let mut recent = recent();
    let at = recent.iter().position(|(kept, _)| kept == bytes)?;
    let entry = recent.remove(at)?;
    let found = entry.1.clone();
    recent.push_front(entry);
    Some(found)
}
