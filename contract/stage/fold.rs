//! Folds: train rows divided into parts, so that a teacher can predict rows that it was not trained on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::tokens::TokenRows;
use crate::digest::Digest;
use crate::fault::Fault;

/// One part of the train rows. `train` trains on all the others, `predict` predicts this one alone.
///
/// A row's fold follows from its `id` and the seed alone: it stays when other rows come or go, and both orders of a
/// pair, which share their `id`, are in one fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// Number of folds.
    pub of: usize,
    /// Which of them this is about, from 0.
    pub leave_out: usize,
    /// Seed of the division.
    #[serde(default)]
    pub seed: u64,
}

impl Fold {
    /// Those of the rows that are left out, or all but those; there may be none.
    #[must_use]
    pub fn part(self, rows: &TokenRows, left_out: bool) -> TokenRows {
        let chosen: Vec<usize> = (0..rows.len()).filter(|row| self.leaves_out(rows.ids[*row]) == left_out).collect();
        rows.select(&chosen)
    }

    /// Checks that neither the part, of so many of a stage's rows, is empty nor the rest.
    ///
    /// # Errors
    /// When one is.
    pub fn check_part(self, part: usize, all: usize, left_out: bool, stage: &str) -> Result<(), Fault> {
        if part > 0 && part < all {
            return Ok(());
        }
        let Self { of, leave_out, .. } = self;
        let which = if (part == 0) == left_out { "no" } else { "all" };
        let message = format!("fold {leave_out} of {of} holds {which} train rows of `{stage}`, which has {all}");
        Err(Fault::new(message, "divide them into fewer folds, or by another `seed`"))
    }

    /// Whether the fold holds the row of that `id`.
    pub fn leaves_out(self, id: i64) -> bool {
        let hash = Digest::of(format!("{} {id}", self.seed).as_bytes()).number();
        hash % self.of as u64 == self.leave_out as u64
    }

    /// What it says wrongly, if anything.
    pub fn mistake(self) -> Option<String> {
        if self.of < 2 {
            return Some("`of` needs at least 2 folds".to_owned());
        }
        let last = self.of - 1;
        (self.leave_out > last)
            .then(|| format!("`leave_out` is {}, but {} folds are 0 to {last}", self.leave_out, self.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(ids: impl Iterator<Item = i64>) -> TokenRows {
        let mut rows = TokenRows::default();
        for id in ids {
            rows.push(id, false, Some(1.0), &[id as u32, 7], &[0, 1], 0);
        }
        rows
    }

    proptest! {
        #[test]
        fn each_row_is_left_out_by_one_fold_and_trained_on_by_the_others(of in 2_usize..6, count in 60_i64..200, seed: u64) {
            let all = rows(0..count);
            let mut seen = Vec::new();
            for leave_out in 0..of {
                let fold = Fold { of, leave_out, seed };
                let out = fold.part(&all, true);
                let rest = fold.part(&all, false);
                let mut both = [out.ids.clone(), rest.ids.clone()].concat();
                both.sort_unstable();
                prop_assert_eq!(&both, &all.ids);
                for (at, id) in out.ids.iter().enumerate() {
                    prop_assert_eq!(out.input_ids(at), &[*id as i32, 7]);
                }
                // A fold stays as it is when rows are added.
                let more = fold.part(&rows(0..count + 50), true);
                prop_assert_eq!(&more.ids[..out.len()], &out.ids[..]);
                seen.extend(out.ids);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, all.ids);
        }
    }

    #[test]
    fn a_fold_without_rows_is_an_error() {
        let of_two = |leave_out| {
            let fold = Fold { of: 2, leave_out, seed: 0 };
            fold.check_part(fold.part(&rows(0..1), true).len(), 1, true, "tokens@rte")
        };
        let errors: Vec<String> = (0..2).filter_map(|fold| of_two(fold).err()).map(|error| error.to_string()).collect();
        assert_eq!(errors.len(), 2);
        assert!(
            errors.iter().any(|error| error.ends_with("holds no train rows of `tokens@rte`, which has 1")),
            "{errors:?}"
        );
        assert!(
            errors.iter().any(|error| error.ends_with("holds all train rows of `tokens@rte`, which has 1")),
            "{errors:?}"
        );
    }

    #[test]
    fn folds_out_of_range_are_mistakes() {
        let mistake = |of, leave_out| Fold { of, leave_out, seed: 0 }.mistake();
        assert_eq!(mistake(5, 4), None);
        assert_eq!(mistake(5, 5).as_deref(), Some("`leave_out` is 5, but 5 folds are 0 to 4"));
        assert_eq!(mistake(1, 0).as_deref(), Some("`of` needs at least 2 folds"));
    }
}
