//! `AdamW` on a table of which each step has gradients of few rows.
//!
//! Adam moves every row at every step: moments fade and weights decay without gradients too. Here a row without one
//! is left behind and catches up when it is next read, by the very updates it missed; so the outcome is the same bit
//! for bit, and a step touches hundreds of rows instead of tens of thousands. On the CPU, that is: a GPU moves them all.

use rayon::prelude::*;
use tch::Tensor;

use super::{Moments, Update, elements, elements_mut};

#[derive(Debug)]
pub(super) struct Table {
    moments: Moments,
    rows: Vec<Row>,
    /// Of the steps since all rows were up to the present.
    updates: Vec<Update>,
    width: usize,
}

/// How far a row has come.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// How many of those steps it has behind it.
    steps: usize,
    /// Whether it ever had a gradient; its moments are zero else.
    moved: bool,
}

/// Stands for no gradient.
const NONE: u32 = u32::MAX;

impl Table {
    pub(super) fn new(weights_vd: &Tensor) -> Self {
        let (rows, width) = weights_vd.size2().expect("a table has rows and columns");
        Self {
            moments: Moments::zero(weights_vd),
            rows: vec![Row::default(); rows as usize],
            updates: Vec::new(),
            width: width as usize,
        }
    }

    /// One step, with gradients of the rows `ids`, which are up to the present.
    pub(super) fn step(&mut self, weights_vd: &mut Tensor, ids: &[i64], gradients_ud: &Tensor, update: Update) {
        self.updates.push(update);
        let mut places = vec![NONE; self.rows.len()];
        for (place, id) in ids.iter().enumerate() {
            places[*id as usize] = place as u32;
        }
        let gradients = elements(gradients_ud);
        let width = self.width;
        self.each_row(weights_vd, |id, updates, row, weights, firsts, seconds| {
            if places[id] == NONE {
                return;
            }
            catch_up(row, &updates[..updates.len() - 1], weights, firsts, seconds);
            let gradients = &gradients[places[id] as usize * width..][..width];
            for (at, gradient) in gradients.iter().enumerate() {
                update.of_one(&mut weights[at], *gradient, &mut firsts[at], &mut seconds[at]);
            }
            *row = Row { steps: updates.len(), moved: true };
        });
    }

    /// Brings some rows up to the present.
    pub(super) fn catch_up(&mut self, weights_vd: &mut Tensor, ids: &[i64]) {
        let mut wanted = vec![false; self.rows.len()];
        for id in ids {
            wanted[*id as usize] = true;
        }
        self.bring_up(weights_vd, |id| wanted[id]);
    }

    /// Brings all rows up to the present.
    pub(super) fn settle(&mut self, weights_vd: &mut Tensor) {
        self.bring_up(weights_vd, |_| true);
        // All rows have the steps so far behind them, which can be forgotten.
        self.updates.clear();
        for row in &mut self.rows {
            row.steps = 0;
        }
    }

    pub(super) fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The moments, to be set to those of a settled table.
    pub(super) fn restored(&mut self) -> &mut Moments {
        self.updates.clear();
        // Any row may have moments now; where they are zero, its updates come to its decay all the same.
        self.rows.fill(Row { steps: 0, moved: true });
        &mut self.moments
    }

    fn bring_up(&mut self, weights_vd: &mut Tensor, wanted: impl Fn(usize) -> bool + Sync) {
        self.each_row(weights_vd, |id, updates, row, weights, firsts, seconds| {
            if wanted(id) {
                catch_up(row, updates, weights, firsts, seconds);
            }
        });
    }

    fn each_row(
        &mut self,
        weights_vd: &mut Tensor,
        change: impl Fn(usize, &[Update], &mut Row, &mut [f32], &mut [f32], &mut [f32]) + Sync,
    ) {
        let Self { moments, rows, updates, width } = self;
        let weights = elements_mut(weights_vd).par_chunks_mut(*width);
        let firsts = elements_mut(&mut moments.first).par_chunks_mut(*width);
        let seconds = elements_mut(&mut moments.second).par_chunks_mut(*width);
        let all = rows.par_iter_mut().zip(weights).zip(firsts.zip(seconds)).enumerate().with_min_len(64);
        all.for_each(|(id, ((row, weights), (firsts, seconds)))| change(id, updates, row, weights, firsts, seconds));
    }
}

/// Makes up for the steps that a row missed, all of them without gradient.
fn catch_up(row: &mut Row, updates: &[Update], weights: &mut [f32], firsts: &mut [f32], seconds: &mut [f32]) {
    for update in &updates[row.steps..] {
        if row.moved {
            for ((weight, first), second) in weights.iter_mut().zip(&mut *firsts).zip(&mut *seconds) {
                update.of_one(weight, 0.0, first, second);
            }
        } else {
            // Without moments a step is its decay.
            for weight in &mut *weights {
                *weight *= update.kept;
            }
        }
    }
    row.steps = updates.len();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;

    const ROWS: i64 = 6;
    const WIDTH: i64 = 5;

    fn update(step: usize) -> Update {
        let rate = 0.1 / (step + 1) as f32;
        Update { gradient_scale: 0.7, step_size: rate, root_correction: 0.8, kept: 1.0 - 0.01 * rate }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Each step has gradients of some rows, reads those of the next step, and now and then the whole table.
        #[test]
        fn rows_that_catch_up_are_where_they_would_be(
            steps in prop::collection::vec(prop::collection::btree_set(0..ROWS, 0..4), 1..12),
            settled in any::<prop::sample::Index>(),
        ) {
            tch::manual_seed(5);
            let start = Tensor::randn([ROWS, WIDTH], (Kind::Float, Device::Cpu));
            let (mut dense, mut dense_moments) = (start.copy(), Moments::zero(&start));
            let (mut lazy, mut table) = (start.copy(), Table::new(&start));
            for (step, ids) in steps.iter().enumerate() {
                let ids: Vec<i64> = ids.iter().copied().collect();
                let index = Tensor::from_slice(&ids);
                table.catch_up(&mut lazy, &ids);
                prop_assert_eq!(lazy.index_select(0, &index), dense.index_select(0, &index));
                let gradients = Tensor::randn([ids.len() as i64, WIDTH], (Kind::Float, Device::Cpu));
                let whole = dense.zeros_like().index_copy_(0, &index, &gradients);
                update(step).in_one_pass(&mut dense, &whole, &mut dense_moments);
                table.step(&mut lazy, &ids, &gradients, update(step));
                if step == settled.index(steps.len()) {
                    table.settle(&mut lazy);
                    prop_assert_eq!(&lazy, &dense);
                }
            }
            table.settle(&mut lazy);
            prop_assert_eq!(&lazy, &dense);
            prop_assert_eq!(&table.moments.first, &dense_moments.first);
            prop_assert_eq!(&table.moments.second, &dense_moments.second);
        }
    }
}
