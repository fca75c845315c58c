//! Folds that hold no row. Which fold a row is in follows from its number and a seed, so that a table known to be small is
//! divided before anything runs; of others the worker tells.

use std::fs;

use bam_contract::stage::{DataParams, StageSpec};

use super::Stages;
use super::learning::{data, rows_of, train_file};
use crate::pipeline::mistake::Mistakes;

/// Rows that are divided here at most; of more, no fold that is worth training is empty.
const MOST_ROWS: usize = 2000;
/// Files that are read for it at most.
const MOST_BYTES: u64 = 1 << 20;

pub(super) fn check(at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
    let StageSpec::Train(train) = stages.spec(at) else { return };
    let Some(fold) = train.fold.filter(|fold| fold.mistake().is_none()) else { return };
    for (_, tokens) in stages.listed(at, "tokens") {
        let Some(most) = data(tokens, stages).and_then(most_rows).filter(|most| *most <= MOST_ROWS) else { continue };
        if !(0..most as i64).any(|id| fold.leaves_out(id)) {
            let message = format!(
                "stage `{}` leaves out fold {} of {}, but none of the train rows of `{}` is in it",
                stages.name(at),
                fold.leave_out,
                fold.of,
                stages.name(tokens)
            );
            let hint = "divide them into fewer folds, or by another `seed`";
            stages.mistake(at, &["fold"], message, Some(hint), mistakes);
        }
    }
}

/// No fewer than there are; nothing where that isn't known.
fn most_rows(data: &DataParams) -> Option<usize> {
    let written = || data.grammar.as_ref().map(|grammar| grammar.train);
    let is_small = || fs::metadata(train_file(data)?).ok().filter(|file| file.len() <= MOST_BYTES);
    // A file without a header has one row more than it says.
    let read = || is_small().and_then(|_| rows_of(data)).map(|rows| rows + 1);
    let rows = written().or_else(read)?;
    Some(data.limit.map_or(rows, |limit| limit.min(rows)))
}
