//! Folds that hold no row. Which fold a row is in follows from its number and a seed, so that a table known to be small is
//! divided before anything runs; of others the worker tells.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use bam_contract::stage::{DataParams, StageSpec};
use bam_contract::task::Format;
use flate2::read::MultiGzDecoder;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::Stages;
use super::learning::{data, train_file};
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
    let read = || {
        let path = train_file(data)?;
        let format = data.definition.as_ref()?.format.or_else(|| Format::of(&path).ok())?;
        rows_in(&path, format)
    };
    let rows = written().or_else(read)?;
    Some(data.limit.map_or(rows, |limit| limit.min(rows)))
}

/// No fewer than a small file has: its lines, of which a header may be one.
fn rows_in(path: &Path, format: Format) -> Option<usize> {
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.len() > MOST_BYTES {
        return None;
    }
    if format == Format::Parquet {
        let reader = SerializedFileReader::new(file).ok()?;
        return usize::try_from(reader.metadata().file_metadata().num_rows()).ok();
    }
    let is_packed = path.extension().is_some_and(|ending| ending == "gz");
    let text: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut rows = 0;
    // What can't be unpacked is told when it is read.
    for line in BufReader::new(text).split(b'\n').take(MOST_ROWS + 1) {
        line.ok()?;
        rows += 1;
    }
    Some(rows)
}
