//! Rows of unequal length side by side: padded to the longest, and cut so that little of it is padding.

use std::ops::Range;

use anyhow::Result;
use bam_contract::artifact::tokens::TokenRows;

/// Rows padded to the longest of them, row by row: B rows of L positions.
#[derive(Debug)]
pub struct Padded {
    pub rows: usize,
    pub length: usize,
    pub input_ids: Vec<i64>,
    pub token_type_ids: Vec<i64>,
    /// 1 at tokens, 0 at padding.
    pub attention_mask: Vec<i64>,
}

impl Padded {
    /// The given rows, each of its own task's tokens.
    pub fn new(rows: &[(&TokenRows, usize)], pad_id: u32) -> Self {
        let length = rows.iter().map(|(tokens, row)| tokens.tokens(*row)).max().unwrap_or(0);
        let size = rows.len() * length;
        let mut padded = Self {
            rows: rows.len(),
            length,
            input_ids: vec![i64::from(pad_id); size],
            token_type_ids: vec![0; size],
            attention_mask: vec![0; size],
        };
        for (index, (tokens, row)) in rows.iter().enumerate() {
            let start = index * length;
            let places = start..start + tokens.tokens(*row);
            for (place, id) in padded.input_ids[places.clone()].iter_mut().zip(tokens.input_ids(*row)) {
                *place = i64::from(*id);
            }
            for (place, id) in padded.token_type_ids[places.clone()].iter_mut().zip(tokens.token_type_ids(*row)) {
                *place = i64::from(*id);
            }
            padded.attention_mask[places].fill(1);
        }
        padded
    }
}

/// One of few lengths: libtorch compiles its matrix products for each shape anew, which costs more than the padding does.
pub fn rounded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// How a runtime's passes are cut. It moves only which rows go together, on which an int8 graph's answers depend a little, and no others.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Most tokens of a pass of several rows, padding included; bounds the memory of its activations.
    pub most_tokens: usize,
    /// What one more pass costs beside its tokens, in tokens: its kernels' overhead, and weights read again. An estimate.
    pub overhead_tokens: usize,
}

/// libtorch divides a pass among the threads, and casts weights for it.
pub const OF_LIBTORCH: Cut = Cut { most_tokens: 8192, overhead_tokens: 128 };
/// ONNX Runtime computes a large pass more slowly than several whose activations fit the processor's caches; its overhead was
/// measured with a small encoder on one core and on two.
pub const OF_ONNX_RUNTIME: Cut = Cut { most_tokens: 1024, overhead_tokens: 16 };

/// Rows that are sorted by length together; bounds what the search for the best passes costs.
const WINDOW_ROWS: usize = 512;

/// Cuts `lengths`, which ascend, into runs so that the sum over runs of `rows x longest + overhead` is least.
///
/// The rows of a batch may take any number of passes, since gradients add up; so a batch is drawn by
/// the method's rules alone, and padding is saved within it. Returns the end of each run.
pub fn passes(lengths: &[usize], cut: Cut) -> Vec<usize> {
    debug_assert!(lengths.is_sorted());
    // cost[end]: the least cost of the first `end` rows; start[end]: where the last run of that starts.
    let mut cost = vec![0; lengths.len() + 1];
    let mut start = vec![0; lengths.len() + 1];
    for end in 1..=lengths.len() {
        let longest = rounded(lengths[end - 1]);
        let fits = |first: &usize| *first == end - 1 || (end - first) * longest <= cut.most_tokens;
        let best = (0..end)
            .rev()
            .take_while(fits)
            .map(|first| (cost[first] + (end - first) * longest + cut.overhead_tokens, first));
        (cost[end], start[end]) = best.min().expect("a single row always fits");
    }
    let mut ends: Vec<_> =
        std::iter::successors(Some(lengths.len()), |end| Some(start[*end])).take_while(|end| *end > 0).collect();
    ends.reverse();
    ends
}

/// Rows that go through together, and the groups of like length within which they attend.
#[derive(Debug, PartialEq)]
pub struct Pass {
    pub rows: Range<usize>,
    /// The end of each group, counted from the pass's first row.
    pub ends: Vec<usize>,
}

/// Passes over all of `lengths`, which ascend: as few as can be of at most `most_tokens`, or of a row. Groups are cut as [`passes`] are.
pub fn passes_of_groups(lengths: &[usize], most_tokens: usize) -> Vec<Pass> {
    let mut passes_so_far: Vec<Pass> = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for end in passes(lengths, Cut { most_tokens, ..OF_LIBTORCH }) {
        let of_group: usize = lengths[start..end].iter().sum();
        match passes_so_far.last_mut() {
            Some(pass) if tokens + of_group <= most_tokens => {
                tokens += of_group;
                pass.rows.end = end;
                pass.ends.push(end - pass.rows.start);
            }
            _ => {
                tokens = of_group;
                passes_so_far.push(Pass { rows: start..end, ends: vec![end - start] });
            }
        }
        start = end;
    }
    passes_so_far
}

/// Outputs of `compute` for all rows, in the order of the rows.
///
/// Rows go through sorted by length, so that little is padded: `compute` is given the row numbers of a
/// pass and returns `outputs` values for each. `progress` hears of the rows done.
pub fn in_passes(
    rows: &TokenRows,
    cut: Cut,
    outputs: usize,
    mut compute: impl FnMut(&[usize]) -> Result<Vec<f32>>,
    mut progress: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let mut computed = vec![0.0; rows.len() * outputs];
    let mut order: Vec<_> = (0..rows.len()).collect();
    order.sort_by_key(|row| (rows.tokens(*row), *row));
    let mut done = 0;
    for window in order.chunks(WINDOW_ROWS) {
        let lengths: Vec<_> = window.iter().map(|row| rows.tokens(*row)).collect();
        let mut start = 0;
        for end in passes(&lengths, cut) {
            let pass = &window[start..end];
            for (row, values) in pass.iter().zip(compute(pass)?.chunks(outputs)) {
                computed[row * outputs..(row + 1) * outputs].copy_from_slice(values);
            }
            done += pass.len();
            progress(done);
            start = end;
        }
    }
    Ok(computed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn padded_tokens(lengths: &[usize], ends: &[usize]) -> usize {
        let starts = std::iter::once(&0).chain(ends);
        starts
            .zip(ends)
            .map(|(start, end)| (end - start) * rounded(lengths[end - 1]) + OF_LIBTORCH.overhead_tokens)
            .sum()
    }

    #[test]
    fn short_rows_are_not_padded_to_a_long_one() {
        let lengths = [vec![10; 64], vec![128; 8]].concat();
        assert_eq!(passes(&lengths, OF_LIBTORCH), [64, 72]);
    }

    proptest! {
        #[test]
        fn passes_cover_all_rows_within_the_bound(mut lengths in prop::collection::vec(1_usize..512, 1..200)) {
            lengths.sort_unstable();
            let ends = passes(&lengths, OF_LIBTORCH);
            prop_assert!(ends.is_sorted() && *ends.last().unwrap() == lengths.len());
            let starts = std::iter::once(&0).chain(&ends);
            for (start, end) in starts.zip(&ends) {
                let longest = rounded(lengths[end - 1]);
                prop_assert!(end > start && (end - start) * longest <= OF_LIBTORCH.most_tokens.max(longest));
            }
            // Never dearer than one pass over everything, where that fits.
            if lengths.len() * rounded(lengths[lengths.len() - 1]) <= OF_LIBTORCH.most_tokens {
                prop_assert!(padded_tokens(&lengths, &ends) <= padded_tokens(&lengths, &[lengths.len()]));
            }
        }

        #[test]
        fn no_other_runs_would_cost_less(
            mut lengths in prop::collection::vec(1_usize..100, 1..9), most_tokens in 1_usize..500, overhead_tokens in 0_usize..200,
        ) {
            lengths.sort_unstable();
            let cut = Cut { most_tokens, overhead_tokens };
            let cost = |ends: &[usize]| -> Option<usize> {
                let runs = std::iter::once(&0).chain(ends).zip(ends).map(|(start, end)| (end - start, rounded(lengths[end - 1])));
                let fits = runs.clone().all(|(rows, longest)| rows == 1 || rows * longest <= most_tokens);
                fits.then(|| runs.map(|(rows, longest)| rows * longest + overhead_tokens).sum())
            };
            let all_ways = (0..1_usize << (lengths.len() - 1)).map(|cuts| -> Vec<usize> {
                (1..lengths.len()).filter(|end| cuts >> (end - 1) & 1 == 1).chain([lengths.len()]).collect()
            });
            let least = all_ways.filter_map(|ends| cost(&ends)).min();
            prop_assert_eq!(cost(&passes(&lengths, cut)), least);
        }

        #[test]
        fn tokens_come_first_and_padding_is_masked(lengths in prop::collection::vec(1_usize..11, 1..6)) {
            let mut tokens = TokenRows::default();
            for (row, length) in lengths.iter().enumerate() {
                let ids: Vec<u32> = (1..=*length as u32).collect();
                tokens.push(row as i64, false, None, &ids, &vec![1; *length], 0);
            }
            let rows: Vec<_> = (0..lengths.len()).map(|row| (&tokens, row)).collect();
            let padded = Padded::new(&rows, 0);
            let longest = *lengths.iter().max().unwrap();
            let size = lengths.len() * longest;
            prop_assert_eq!((padded.rows, padded.length, padded.input_ids.len()), (lengths.len(), longest, size));
            for (row, length) in lengths.iter().enumerate() {
                for place in 0..longest {
                    let at = row * longest + place;
                    let is_token = place < *length;
                    prop_assert_eq!(padded.input_ids[at], if is_token { place as i64 + 1 } else { 0 });
                    prop_assert_eq!(padded.token_type_ids[at], i64::from(is_token));
                    prop_assert_eq!(padded.attention_mask[at], i64::from(is_token));
                }
            }
        }

        #[test]
        fn passes_of_groups_cover_all_rows_within_the_bound(
            mut lengths in prop::collection::vec(1_usize..512, 1..200), most in 1_usize..10_000,
        ) {
            lengths.sort_unstable();
            let mut ends = Vec::new();
            let mut start = 0;
            for Pass { rows, ends: groups } in passes_of_groups(&lengths, most) {
                prop_assert_eq!((rows.start, rows.len()), (start, *groups.last().unwrap()));
                let tokens: usize = lengths[rows.clone()].iter().sum();
                prop_assert!(tokens <= most || rows.len() == 1, "{} tokens", tokens);
                ends.extend(groups.iter().map(|end| start + end));
                start = rows.end;
            }
            prop_assert_eq!(start, lengths.len());
            prop_assert_eq!(ends, passes(&lengths, Cut { most_tokens: most, ..OF_LIBTORCH }));
        }
    }
}
