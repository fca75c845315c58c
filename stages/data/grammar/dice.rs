//! Chance that comes out the same on every platform.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice of their own for each task, so that tasks of one seed do not share their draws.
    pub(super) fn of(task: &str, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(task.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// A number from 0 up to `bound`, without it.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // Drawn as 32 bits, because a `usize` draws differently where it is narrower.
        self.0.random_range(0..bound as u32) as usize
    }

    pub(super) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// One that is not `taken`.
    pub(super) fn pick_other<'a, T: PartialEq>(&mut self, of: &'a [T], taken: &T) -> &'a T {
        loop {
            let picked = self.pick(of);
            if picked != taken {
                return picked;
            }
        }
    }
}
