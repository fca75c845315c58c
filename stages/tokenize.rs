//! The stage `tokenize`: examples become word-piece ids.

#[cfg(test)]
mod tests;

use anyhow::Result;
use bam_contract::artifact::encoder::tokenizer_digest;
use bam_contract::artifact::examples::{Example, Examples};
use bam_contract::artifact::tokens::{TokenRows, TokenizerInfo, TokensWriter};
use bam_contract::job::Job;
use bam_contract::stage::TokenizeParams;
use bam_contract::task::Split;
use bam_inference::row::row;
use bam_inference::word_pieces::WordPieces;

use crate::report::{Outcome, Reporter};
use crate::text::thousands;

/// Share of rows above which cutting them is worth a warning.
const MANY_CUT: f64 = 0.01;

/// Writes one Parquet file of tokens per split into the job's output folder.
pub(crate) fn run(params: &TokenizeParams, job: &Job, reporter: &Reporter) -> Result<Outcome> {
    let examples = Examples::open(&job.input("examples")?.path)?;
    let word_pieces = WordPieces::open(&params.encoder)?;
    let tokenizer = TokenizerInfo {
        digest: tokenizer_digest(&params.encoder)?,
        vocabulary_size: word_pieces.vocabulary_size(),
        max_tokens: params.max_tokens,
        pad_id: word_pieces.pad_id,
    };
    let mut counts = Vec::new();
    for (done, split) in examples.splits.iter().enumerate() {
        let twice = params.both_orders && examples.task.symmetric && *split == Split::Train;
        let mut writer = TokensWriter::create(&job.output, *split, &examples.task, &tokenizer, job.fingerprint)?;
        let mut count = Count::default();
        for swapped in [false, true].into_iter().take(1 + usize::from(twice)) {
            let mut first_id = 0;
            for batch in examples.rows(*split)? {
                let batch = batch?;
                let rows = encode(&batch, first_id, swapped, &word_pieces, params.max_tokens)?;
                first_id += batch.len() as i64;
                count.add(&rows);
                writer.write(&rows)?;
                let detail = format!("{} {split} rows", thousands(count.rows));
                reporter.progress(done as u64, examples.splits.len() as u64, "splits", detail);
            }
        }
        writer.finish()?;
        counts.push((*split, count));
    }
    warn_of_cuts(&counts, params.max_tokens, reporter);
    let (split, count) = &counts[0];
    let tokens_each = count.tokens as f64 / count.rows as f64;
    Ok(format!("{} {split} rows, {tokens_each:.1} tokens each, {} cut", thousands(count.rows), thousands(count.cut))
        .into())
}

/// What one split came to.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    rows: usize,
    tokens: usize,
    /// Rows that lost tokens.
    cut: usize,
}

impl Count {
    fn add(&mut self, rows: &TokenRows) {
        self.rows += rows.len();
        self.tokens += rows.input_ids.len();
        self.cut += rows.lost_tokens.iter().filter(|lost| **lost > 0).count();
    }
}

fn warn_of_cuts(counts: &[(Split, Count)], max_tokens: usize, reporter: &Reporter) {
    for (split, count) in counts {
        let share = count.cut as f64 / count.rows as f64;
        if share > MANY_CUT {
            let (cut, rows) = (thousands(count.cut), thousands(count.rows));
            reporter.warning(format!(
                "{cut} of {rows} {split} rows ({:.1} %) were cut to {max_tokens} tokens",
                100.0 * share
            ));
        }
    }
}

/// A batch of examples as tokens, in the same order; `swapped` has the second text of each pair first.
fn encode(
    batch: &[Example],
    first_id: i64,
    swapped: bool,
    word_pieces: &WordPieces,
    max_tokens: usize,
) -> Result<TokenRows> {
    let mut first = word_pieces.encode(batch.iter().map(|example| example.text.as_str()))?;
    let mut second = word_pieces.encode(batch.iter().filter_map(|example| example.pair.as_deref()))?;
    if swapped {
        std::mem::swap(&mut first, &mut second);
    }
    let mut rows = TokenRows::default();
    for (index, (id, example)) in (first_id..).zip(batch).enumerate() {
        let row = row(&first[index], second.get(index).map(Vec::as_slice), max_tokens, word_pieces);
        rows.push(id, swapped, example.label, &row.input_ids, &row.token_type_ids, row.lost);
    }
    Ok(rows)
}
