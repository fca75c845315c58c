//! Parts of a batch side by side, each on threads of its own.
//!
//! Two threads within one product reach less of two cores' peak than each by itself of its own (docs/performance.md). So where
//! there are several, each has rows of its own: in a training from the embeddings to the gradients, which add up.

use anyhow::{Context as _, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tch::Device;

use crate::encoder::Model;

/// Fewer tokens aren't worth a part of their own. An estimate; it moves only how a batch is divided.
const LEAST_TOKENS: usize = 128;

/// Each part has gradients of its own, in fp32, so that many would take more memory than they are worth.
const MOST_PARTS: usize = 4;

/// A model that several threads compute with.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a>(pub(crate) &'a Model);

// SAFETY: nothing writes to the model's tensors meanwhile, and libtorch lets several threads build graphs on the same leaves and go
// back through graphs of their own.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn model(self) -> &'a Model {
        self.0
    }
}

/// The threads that batches are computed on.
#[derive(Debug)]
pub(crate) struct Crew {
    /// One thread for each part; none where the device, or a single thread, computes a batch as a whole.
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Crew {
    pub(crate) fn new(threads: usize, device: Device) -> Result<Self> {
        let is_divided = threads > 1 && device == Device::Cpu;
        let start = || ThreadPoolBuilder::new().num_threads(threads.min(MOST_PARTS)).build();
        let pool = is_divided.then(start).transpose().context("starting threads")?;
        Ok(Self { pool, threads })
    }

    /// A single part, computed by whoever asks.
    pub(crate) fn alone() -> Self {
        Self { pool: None, threads: 1 }
    }

    /// Divides rows, which ascend in length, into parts: each gets every so many-th, so that all are as much to do.
    pub(crate) fn divide(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        let tokens: usize = lengths.iter().sum();
        let most = self.pool.as_ref().map_or(1, ThreadPool::current_num_threads);
        let parts = most.min(tokens / LEAST_TOKENS).min(lengths.len()).max(1);
        (0..parts).map(|part| (part..lengths.len()).step_by(parts).collect()).collect()
    }

    /// Computes all parts side by side, a single one on all threads; the results in their order.
    pub(crate) fn compute<P: Sync, R: Send>(&self, parts: &[P], compute: impl Fn(&P) -> R + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) if parts.len() > 1 => {
                let of_each = self.threads / parts.len();
                let computed = pool.broadcast(|thread| {
                    let part = parts.get(thread.index())?;
                    // Of libtorch's products within the part.
                    tch::set_num_threads(of_each as i32);
                    Some(compute(part))
                });
                tch::set_num_threads(self.threads as i32);
                computed.into_iter().flatten().collect()
            }
            _ => parts.iter().map(compute).collect(),
        }
    }
}
