//! A model's sessions: how many there are, and how they share the threads.

use std::time::{Duration, Instant};

use anyhow::Result;
use bam_inference::model::{OnnxModel, Texts};
use bam_inference::session::OnnxSession;

/// A model's sessions may take this share of the memory that is free, unless the user says how many there shall be.
const SHARE_OF_MEMORY: f64 = 0.25;
/// What a session takes for each byte of its weights: they, and about as much again for what it computes.
const BYTES_OF_WEIGHT: f64 = 2.0;

/// What sessions there shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(super) threads: usize,
    /// At most as many as threads, where the user says.
    pub(super) side_by_side: Option<usize>,
    /// When the server began, so that a newer model gets as many as the older one, which is still there.
    pub(super) free_bytes: u64,
}

impl Wish {
    /// Threads of each session that computes beside others, of a model whose weights take so much.
    fn shares(self, weight_bytes: u64) -> Vec<usize> {
        let count = self.side_by_side.unwrap_or_else(|| {
            let of_one = weight_bytes.max(1) as f64 * BYTES_OF_WEIGHT;
            let most = (self.free_bytes as f64 * SHARE_OF_MEMORY / of_one) as usize;
            // One more has all threads.
            let threads_of_one = self.threads.div_ceil(most.saturating_sub(1).max(1));
            self.threads / threads_of_one
        });
        (0..count).map(|number| self.threads / count + usize::from(number < self.threads % count)).collect()
    }
}

/// Sessions that have answered the model's probes.
pub(super) struct Sessions {
    pub(super) shared: Vec<OnnxSession>,
    /// Where there are several.
    pub(super) whole: Option<OnnxSession>,
    /// Rows that each was asked.
    pub(super) probes: usize,
    /// A row's tokens, and what it takes on one of those that are shared.
    pub(super) of_a_row: (usize, Duration),
}

/// Words of the row that is timed: as many as keep a session busy for longer than it takes to begin.
const WORDS: usize = 64;

impl Sessions {
    /// Loads and tests them one after another: a model that is being served meanwhile keeps its threads, and a broken one is
    /// told of by the first.
    pub(super) fn load(model: &OnnxModel, wish: Wish) -> Result<Self> {
        let mut probes = 0;
        let mut load = |threads: usize| {
            let mut session = model.session(threads)?;
            probes = model.test(&mut session)?;
            anyhow::Ok(session)
        };
        let shares = wish.shares(model.weight_bytes()?);
        let mut shared: Vec<OnnxSession> = shares.iter().map(|threads| load(*threads)).collect::<Result<_>>()?;
        let whole = (shared.len() > 1).then(|| load(wish.threads)).transpose()?;
        let of_a_row = timed(model, &mut shared[0])?;
        Ok(Self { shared, whole, probes, of_a_row })
    }
}

fn timed(model: &OnnxModel, session: &mut OnnxSession) -> Result<(usize, Duration)> {
    let rows = model.encode(&[Texts { text: &"and ".repeat(WORDS), pair: None }])?;
    let task = model.info.tasks[0].name.as_str();
    // The first of a length takes memory that the next has.
    model.run(session, &[(&rows, 0)], &[task])?;
    let started = Instant::now();
    model.run(session, &[(&rows, 0)], &[task])?;
    Ok((rows.tokens(0), started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_threads_while_they_are_small() {
        let shares =
            |threads, free_mib: u64| Wish { threads, side_by_side: None, free_bytes: free_mib << 20 }.shares(90 << 20);
        let gib_24 = 24 << 10;
        assert_eq!((shares(1, gib_24), shares(2, gib_24), shares(16, gib_24)), (vec![1], vec![1; 2], vec![1; 16]));
        // There may be ten: eight side by side, and the one that has all threads.
        assert_eq!(shares(16, 7200), [2; 8]);
        // There may be six, for seven threads.
        assert_eq!(shares(7, 4320), [3, 2, 2]);
        for free_mib in [0, 500, 1440] {
            assert_eq!(shares(16, free_mib), [16]);
        }
        assert_eq!(Wish { threads: 4, side_by_side: Some(3), free_bytes: 0 }.shares(90 << 20), [2, 1, 1]);
    }
}
