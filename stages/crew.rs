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

    /// Divides rows, which ascend in length, into parts: each thread gets every so many-th, so that all have as much to do, and
    /// threads beyond the number of parts join the first ones.
    pub(crate) fn divide(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        let tokens: usize = lengths.iter().sum();
        let most = self.pool.as_ref().map_or(1, ThreadPool::current_num_threads);
        let parts = most.min(tokens / LEAST_TOKENS).min(lengths.len()).max(1);
        let mut divided = vec![Vec::new(); parts];
        for row in 0..lengths.len() {
            divided[row % self.threads % parts].push(row);
        }
        divided
    }

    /// How many of the threads compute a part.
    fn threads_of(&self, part: usize, parts: usize) -> usize {
        self.threads / parts + usize::from(part < self.threads % parts)
    }

    /// A part's share of what all threads may take together.
    pub(crate) fn share(&self, whole: usize, part: usize, parts: usize) -> usize {
        (whole * self.threads_of(part, parts)).div_ceil(self.threads)
    }

    /// Computes all parts side by side, a single one on all threads; the results in their order.
    pub(crate) fn compute<P: Sync, R: Send>(&self, parts: &[P], compute: impl Fn(&P) -> R + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) if parts.len() > 1 => {
                let computed = pool.broadcast(|thread| {
                    let part = parts.get(thread.index())?;
                    // A thread that libtorch doesn't know yet takes, when it first computes, the number that any thread set last. Asked
                    // for it, it does so now.
                    _ = tch::get_num_threads();
                    // Of libtorch's products within the part.
                    tch::set_num_threads(self.threads_of(thread.index(), parts.len()) as i32);
                    Some(compute(part))
                });
                tch::set_num_threads(self.threads as i32);
                computed.into_iter().flatten().collect()
            }
            _ => parts.iter().map(compute).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn each_part_computes_with_the_threads_that_it_is_given() {
        let crew = Crew::new(3, Device::Cpu).unwrap();
        let all_are_there = Barrier::new(2);
        let threads = crew.compute(&[(), ()], |()| {
            all_are_there.wait();
            tch::get_num_threads()
        });
        assert_eq!(threads, [2, 1]);
    }

    /// However many threads there are, none is left out and each has as many rows.
    #[test]
    fn parts_share_all_threads_and_rows_in_proportion() {
        for threads in 2..=13 {
            let crew = Crew::new(threads, Device::Cpu).unwrap();
            for (rows, length) in [(60 * threads, 20), (2 * threads, 64), (3, 100), (2, 9)] {
                let divided = crew.divide(&vec![length; rows]);
                let parts = divided.len();
                let mut all = divided.concat();
                all.sort_unstable();
                assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{rows} rows on {threads} threads");
                let of_parts: Vec<usize> = (0..parts).map(|part| crew.threads_of(part, parts)).collect();
                assert_eq!(of_parts.iter().sum::<usize>(), threads);
                assert!(divided.iter().all(|part| part.is_sorted() && !part.is_empty()));
                if rows % threads == 0 {
                    let mut parts = divided.iter().zip(&of_parts);
                    let is_fair = parts.all(|(part, of_part)| part.len() == of_part * rows / threads);
                    assert!(is_fair, "{threads} threads: {divided:?}");
                }
                let tokens: usize = (0..parts).map(|part| crew.share(8192, part, parts)).sum();
                assert!((8192..8192 + parts).contains(&tokens), "{tokens} tokens at once");
            }
        }
        assert_eq!(Crew::new(6, Device::Cpu).unwrap().divide(&[64; 12])[0], [0, 4, 6, 10]);
        assert_eq!(Crew::alone().divide(&[64; 3]), [[0, 1, 2]]);
    }
}
