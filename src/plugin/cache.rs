//! Models ready for evaluation, and the last ones that came in kwargs: Polars hands the same bytes to every batch and
//! every group.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Result;
use crate::mixture::{codec, Density, Model};

/// A model and its factors.
pub struct Factorised {
    pub model: Model,
    pub density: Density,
}

/// Models kept, and the largest of them in bytes.
const KEPT: usize = 8;
const LARGEST: usize = 1 << 20;

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
        if bytes.len() <= LARGEST {
            let mut recent = recent();
            recent.push_front((bytes.to_vec(), made.clone()));
            recent.truncate(KEPT);
        }
        Ok(made)
    }
}

/// No caller panics while it holds the lock, and what it guards is complete at any time.
fn recent() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(bytes: &[u8]) -> Option<Arc<Factorised>> {
    let mut recent = recent();
    let at = recent.iter().position(|(kept, _)| kept == bytes)?;
    let entry = recent.remove(at)?;
    let found = entry.1.clone();
    recent.push_front(entry);
    Some(found)
}
