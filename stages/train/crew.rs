//! Parts of a batch side by side, each on a thread of its own.
//!
//! A matrix product of a batch's size leaves a second thread of the same product a third of its time idle: two threads reach 64 % of two
//! cores' peak, one of its own 75 % (`benches/peak.py`). So where there are several threads, each has rows of its own from
//! the embeddings to the gradients, which add up.

use rayon::{ThreadPool, ThreadPoolBuilder};
use tch::Device;

/// Fewer tokens aren't worth a thread of their own. An estimate; it moves only how a batch is divided.
const LEAST_TOKENS: usize = 128;

/// The threads that a training's steps are computed on.
#[derive(Debug)]
pub(super) struct Crew {
    /// None where the device, or a single thread, computes a batch as a whole.
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Crew {
    pub(super) fn new(threads: usize, device: Device) -> Self {
        let is_divided = threads > 1 && device == Device::Cpu;
        let pool = is_divided.then(|| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a process may have as many threads as it has been given")
        });
        Self { pool, threads }
    }

    /// Divides rows, which ascend in length, among the threads: each gets every so many-th, so that all have as much to do.
    pub(super) fn divide(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        let tokens: usize = lengths.iter().sum();
        let most = if self.pool.is_some() { self.threads } else { 1 };
        let parts = most.min(tokens / LEAST_TOKENS).min(lengths.len()).max(1);
        (0..parts).map(|part| (part..lengths.len()).step_by(parts).collect()).collect()
    }

    /// Computes all parts, side by side if there are as many as threads; the results in their order.
    pub(super) fn compute<P: Sync, R: Send>(&self, parts: &[P], compute: impl Fn(&P) -> R + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) if parts.len() == self.threads => {
                let computed = pool.broadcast(|thread| {
                    // libtorch's own threads, of which a product within a part needs no more.
                    tch::set_num_threads(1);
                    compute(&parts[thread.index()])
                });
                tch::set_num_threads(self.threads as i32);
                computed
            }
            _ => parts.iter().map(compute).collect(),
        }
    }
}
