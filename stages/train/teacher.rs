//! What a task's teacher says of the rows that are trained on.

use anyhow::{Result, ensure};
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::artifact::tokens::TokenRows;
use bam_contract::fault::Fault;
use bam_contract::task::{Split, TaskSpec};

/// A teacher's table, and what it has answered of it so far.
pub(super) struct Teacher {
    stage: String,
    task: String,
    outputs: usize,
    table: Table,
    /// Of the rows asked about, in their order.
    logits: Vec<f32>,
    asked: usize,
    missing: usize,
    first_missing: Option<Key>,
}

/// What rows are told from each other by: `swapped` and `id`.
type Key = (bool, i64);

const COVER_HINT: &str = "let it predict the same `tokenize` stage that is trained on";

impl Teacher {
    pub(super) fn open(predictions: &Predictions, spec: &TaskSpec, stage: String) -> Result<Self> {
        if predictions.task.labels != spec.labels || predictions.task.range != spec.range {
            let message = format!(
                "teacher `{stage}` names the labels of `{}` {:?}, its rows {:?}",
                spec.name, predictions.task.labels, spec.labels
            );
            return Err(Fault::new(message, "teacher and student must be made from the same task definition").into());
        }
        if !predictions.splits.contains(&Split::Train) {
            let hint = "`splits` of its `predict` stage must include `train`";
            return Err(Fault::new(format!("teacher `{stage}` predicted no training rows"), hint).into());
        }
        let table = Table::new(predictions.read(Split::Train)?);
        let (task, outputs) = (spec.name.clone(), spec.outputs());
        Ok(Self { stage, task, outputs, table, logits: Vec::new(), asked: 0, missing: 0, first_missing: None })
    }

    /// Notes what the teacher says of some more rows.
    pub(super) fn answer(&mut self, rows: &TokenRows) -> Result<()> {
        self.asked += rows.len();
        for ((id, swapped), label) in rows.ids.iter().zip(&rows.swapped).zip(&rows.labels) {
            let key = (*swapped, *id);
            let Some(at) = self.table.find(key) else {
                self.missing += 1;
                self.first_missing.get_or_insert(key);
                continue;
            };
            // Row numbers alone would match another file of the same task.
            if self.table.rows.labels[at] != *label {
                let Self { stage, task, .. } = self;
                let message =
                    format!("teacher `{stage}` predicted other examples of `{task}`: row {id} has another label");
                return Err(Fault::new(message, COVER_HINT).into());
            }
            self.logits.extend(&self.table.rows.logits[at * self.outputs..(at + 1) * self.outputs]);
        }
        Ok(())
    }

    /// The logits of all rows asked about, in their order.
    pub(super) fn finish(self) -> Result<Vec<f32>> {
        let Self { stage, task, logits, asked, missing, first_missing, .. } = self;
        if let Some((swapped, id)) = first_missing {
            let swapped = if swapped { " (swapped)" } else { "" };
            let message = format!(
                "teacher `{stage}` doesn't cover the training rows of `{task}`: {missing} of {asked} rows are missing, the first is id {id}{swapped}"
            );
            return Err(Fault::new(message, COVER_HINT).into());
        }
        ensure!(
            logits.iter().all(|logit| logit.is_finite()),
            Fault::new(format!("teacher `{stage}` has logits that are not finite"), "train the teacher again")
        );
        Ok(logits)
    }
}

/// Predictions, found by key. Those of tokens come in the tokens' own order, so that the next row asked for is the next of the table,
/// or one some places on where a fold is left out.
struct Table {
    rows: PredictionRows,
    /// The rows in the order of their keys, where they don't lie so, as another program may have written them.
    order: Option<Vec<usize>>,
    /// Where in that order to look first.
    next: usize,
}

impl Table {
    fn new(rows: PredictionRows) -> Self {
        let key = |row: usize| (rows.swapped[row], rows.ids[row]);
        let is_sorted = (0..rows.ids.len()).is_sorted_by_key(key);
        let sorted = || {
            let mut order: Vec<usize> = (0..rows.ids.len()).collect();
            order.sort_by_key(|row| key(*row));
            order
        };
        let order = (!is_sorted).then(sorted);
        Self { rows, order, next: 0 }
    }

    /// The row of that key.
    fn find(&mut self, key: Key) -> Option<usize> {
        if self.key(self.next) != Some(key) {
            self.next = self.first_not_below(key);
        }
        let found = self.row(self.next).filter(|_| self.key(self.next) == Some(key))?;
        self.next += 1;
        Some(found)
    }

    /// The first place in the order whose key isn't below that.
    fn first_not_below(&self, key: Key) -> usize {
        let (mut low, mut high) = (0, self.rows.ids.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.key(middle) < Some(key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The row at a place in the order.
    fn row(&self, place: usize) -> Option<usize> {
        match &self.order {
            Some(order) => order.get(place).copied(),
            None => (place < self.rows.ids.len()).then_some(place),
        }
    }

    fn key(&self, place: usize) -> Option<Key> {
        self.row(place).map(|row| (self.rows.swapped[row], self.rows.ids[row]))
    }
}

#[cfg(test)]
mod tests {
    use bam_contract::tasks;
    use proptest::prelude::*;

    use super::*;

    fn teacher(keys: &[Key]) -> Teacher {
        let table = Table::new(PredictionRows {
            ids: keys.iter().map(|(_, id)| *id).collect(),
            swapped: keys.iter().map(|(swapped, _)| *swapped).collect(),
            labels: vec![Some(0.0); keys.len()],
            logits: keys.iter().flat_map(|key| said(*key)).collect(),
        });
        let (stage, task, outputs) = ("rte@1".to_owned(), "rte".to_owned(), tasks::builtin("rte").unwrap().outputs());
        Teacher { stage, task, outputs, table, logits: Vec::new(), asked: 0, missing: 0, first_missing: None }
    }

    /// Of two classes.
    fn said((swapped, id): Key) -> [f32; 2] {
        [id as f32, f32::from(u8::from(swapped))]
    }

    fn rows(keys: &[Key]) -> TokenRows {
        let mut rows = TokenRows::default();
        for (swapped, id) in keys {
            rows.push(*id, *swapped, Some(0.0), &[2, 3], &[0, 0], 0);
        }
        rows
    }

    proptest! {
        /// In the order of tokens, as `predict` and `join` write it, and in any other; all of the table, or a part.
        #[test]
        fn each_row_has_its_own_answer_whatever_the_order(
            count in 1_i64..40, is_asked in prop::collection::vec(any::<bool>(), 80), turn: u64, chunk in 1_usize..9,
        ) {
            let in_order: Vec<Key> = (0..2 * count).map(|at| (at >= count, at % count)).collect();
            let asked: Vec<Key> = in_order.iter().zip(&is_asked).filter(|(_, asked)| **asked).map(|(key, _)| *key).collect();
            let mut in_disorder = in_order.clone();
            in_disorder.sort_by_key(|(swapped, id)| ((*id as u64 * 2 + u64::from(*swapped)).wrapping_mul(turn | 1), *id));
            for table in [in_order, in_disorder] {
                let mut teacher = teacher(&table);
                for chunk in asked.chunks(chunk) {
                    teacher.answer(&rows(chunk)).unwrap();
                }
                prop_assert_eq!(teacher.finish().unwrap(), asked.iter().flat_map(|key| said(*key)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn rows_that_it_lacks_are_counted_and_the_first_is_named() {
        let mut teacher = teacher(&[(false, 1), (false, 2), (true, 1)]);
        for chunk in [[(false, 1), (false, 2)], [(true, 1), (true, 2)], [(true, 3), (true, 4)]] {
            teacher.answer(&rows(&chunk)).unwrap();
        }
        assert_eq!(
            teacher.finish().unwrap_err().to_string(),
            "teacher `rte@1` doesn't cover the training rows of `rte`: 3 of 6 rows are missing, the first is id 2 (swapped)"
        );
    }

    #[test]
    fn rows_of_other_labels_are_refused() {
        let mut others = rows(&[(false, 2)]);
        others.labels = vec![Some(1.0)];
        let error = teacher(&[(false, 1), (false, 2)]).answer(&others).unwrap_err();
        assert_eq!(error.to_string(), "teacher `rte@1` predicted other examples of `rte`: row 2 has another label");
    }
}
