//! Which rows go together.

use bam_inference::padding::{Cut, OF_ONNX_RUNTIME, passes, rounded};

use super::request::Row;

/// What a pass costs beside its tokens, in tokens.
pub(super) const PASS_OVERHEAD_TOKENS: usize = OF_ONNX_RUNTIME.overhead_tokens;

/// Batches of rows of about one length, by the rule of training: those whose common batch costs less than batches of their own. That
/// of the first row comes first.
pub(super) fn batches_of(rows: Vec<Row>, batch_tokens: usize) -> Vec<Vec<Row>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows[*row].tokens());
    let ascending: Vec<usize> = order.iter().map(|row| rows[*row].tokens()).collect();
    let mut batch_of = vec![0; rows.len()];
    let ends = passes(&ascending, Cut { most_tokens: batch_tokens, ..OF_ONNX_RUNTIME });
    let mut start = 0;
    for (batch, end) in ends.iter().enumerate() {
        order[start..*end].iter().for_each(|row| batch_of[*row] = batch);
        start = *end;
    }
    let mut batches = vec![Vec::new(); ends.len()];
    let mut firsts = Vec::new();
    for (row, batch) in rows.into_iter().zip(batch_of) {
        if batches[batch].is_empty() {
            firsts.push(batch);
        }
        batches[batch].push(row);
    }
    firsts.into_iter().map(|batch| std::mem::take(&mut batches[batch])).collect()
}

/// Most tokens of a batch where so many sessions are to have some of these rows: as many of the longest as it takes for an equal
/// part of all. One session takes what a batch may hold.
pub(super) fn even_share(rows: &[Row], sessions: usize) -> usize {
    if sessions == 1 {
        return usize::MAX;
    }
    let lengths = rows.iter().map(|row| rounded(row.tokens()));
    let longest = lengths.clone().max().unwrap_or(1);
    lengths.sum::<usize>().div_ceil(sessions).next_multiple_of(longest)
}

pub(super) fn tokens_of(batch: &[Row]) -> usize {
    batch.iter().map(Row::tokens).sum()
}

/// What it costs to compute a batch, padding and the pass itself included; in tokens.
pub(super) fn cost_of(batch: &[Row]) -> usize {
    let longest = batch.iter().map(Row::tokens).max().unwrap_or(0);
    batch.len() * longest + PASS_OVERHEAD_TOKENS
}
