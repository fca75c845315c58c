//! Which rows a batch holds. Tasks mix within a batch, each drawn with probability proportional to
//! `rows ^ exponent`; a task's own rows come in a random order without repetition until all have come.

use rand::distr::weighted::WeightedIndex;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

/// A row of a task's training split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Draw {
    pub(super) task: usize,
    pub(super) row: usize,
}

#[derive(Debug)]
pub(super) struct Sampler {
    tasks: WeightedIndex<f64>,
    rows: Vec<Shuffled>,
    random: ChaCha8Rng,
}

/// The rows of a task in random order, shuffled anew each time all have come.
#[derive(Debug)]
struct Shuffled {
    order: Vec<usize>,
    next: usize,
}

impl Sampler {
    /// For tasks of so many rows each.
    pub(super) fn new(rows: &[usize], exponent: f64, seed: u64) -> Self {
        let weights = rows.iter().map(|rows| (*rows as f64).powf(exponent));
        Self {
            tasks: WeightedIndex::new(weights).expect("every task has training rows"),
            rows: rows.iter().map(|rows| Shuffled { order: (0..*rows).collect(), next: *rows }).collect(),
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(super) fn draw(&mut self, rows: usize) -> Vec<Draw> {
        let Self { tasks, rows: shuffled, random } = self;
        (0..rows)
            .map(|_| {
                let task = tasks.sample(random);
                Draw { task, row: shuffled[task].draw(random) }
            })
            .collect()
    }
}

impl Shuffled {
    fn draw(&mut self, random: &mut ChaCha8Rng) -> usize {
        if self.next == self.order.len() {
            self.order.shuffle(random);
            self.next = 0;
        }
        self.next += 1;
        self.order[self.next - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_before_any_comes_again() {
        let mut sampler = Sampler::new(&[10], 0.75, 7);
        for _ in 0..3 {
            let mut rows: Vec<_> = sampler.draw(10).into_iter().map(|draw| draw.row).collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn tasks_come_in_proportion_to_a_power_of_their_size() {
        let mut sampler = Sampler::new(&[16, 10_000], 0.75, 7);
        let draws = sampler.draw(100_000);
        let small = draws.iter().filter(|draw| draw.task == 0).count() as f64 / draws.len() as f64;
        // 16^0.75 = 8 and 10000^0.75 = 1000.
        assert!((small - 8.0 / 1008.0).abs() < 0.002, "{small}");
    }

    #[test]
    fn the_seed_decides_the_order() {
        let draws = |seed| Sampler::new(&[50, 20], 0.75, seed).draw(40);
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
}
