//! Rows of tokens as padded tensors, and how to cut a batch so that little of it is padding.

use bam_contract::artifact::tokens::TokenRows;
use tch::{Device, Kind, Tensor};

/// Rows padded to the longest of them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) input_ids_bl: Tensor,
    pub(crate) token_type_ids_bl: Tensor,
    /// 0 at tokens and a large negative number at padding, of shape [B, 1, 1, L]; none where nothing is padded.
    pub(crate) mask_b11l: Option<Tensor>,
}

/// Added to the attention scores of padding: as good as minus infinity, and a number in bf16 too.
const MASKED: f64 = -1e30;

impl Batch {
    /// The given rows, each of its own task's tokens.
    pub(crate) fn new(rows: &[(&TokenRows, usize)], pad_id: u32, device: Device) -> Self {
        let length = rows.iter().map(|(tokens, row)| tokens.tokens(*row)).max().unwrap_or(0);
        let mut input_ids = vec![i64::from(pad_id); rows.len() * length];
        let mut token_type_ids = vec![0_i64; rows.len() * length];
        let mut is_padding = vec![true; rows.len() * length];
        for (index, (tokens, row)) in rows.iter().enumerate() {
            let places = index * length..index * length + tokens.tokens(*row);
            let places_ids = input_ids[places.clone()].iter_mut().zip(tokens.input_ids(*row));
            places_ids.for_each(|(place, id)| *place = i64::from(*id));
            let places_types = token_type_ids[places.clone()].iter_mut().zip(tokens.token_type_ids(*row));
            places_types.for_each(|(place, id)| *place = i64::from(*id));
            is_padding[places].fill(false);
        }
        let shape = [rows.len() as i64, length as i64];
        let tensor = |values: &[i64]| Tensor::from_slice(values).view(shape).to_device(device);
        let mask = is_padding.contains(&true).then(|| {
            let padding = Tensor::from_slice(&is_padding).view([shape[0], 1, 1, shape[1]]).to_device(device);
            padding.to_kind(Kind::Float) * MASKED
        });
        Self { input_ids_bl: tensor(&input_ids), token_type_ids_bl: tensor(&token_type_ids), mask_b11l: mask }
    }
}

/// What one more pass costs beside its tokens, in tokens: its kernels' overhead, and weights read and cast again.
const PASS_OVERHEAD_TOKENS: usize = 128;
/// Most tokens of one pass, padding included; bounds the memory of its activations.
const PASS_TOKENS: usize = 8192;

/// Cuts `lengths`, which ascend, into runs so that the sum over runs of `rows x longest + overhead` is least.
///
/// The rows of a batch may take any number of passes, since gradients add up; so a batch is drawn by
/// the method's rules alone, and padding is saved within it. Returns the end of each run.
pub(crate) fn passes(lengths: &[usize]) -> Vec<usize> {
    debug_assert!(lengths.is_sorted());
    // cost[end]: the least cost of the first `end` rows; start[end]: where the last run of that starts.
    let mut cost = vec![0; lengths.len() + 1];
    let mut start = vec![0; lengths.len() + 1];
    for end in 1..=lengths.len() {
        let longest = lengths[end - 1];
        let fits = |first: &usize| *first == end - 1 || (end - first) * longest <= PASS_TOKENS;
        let best =
            (0..end).filter(fits).map(|first| (cost[first] + (end - first) * longest + PASS_OVERHEAD_TOKENS, first));
        (cost[end], start[end]) = best.min().expect("a single row always fits");
    }
    let mut ends: Vec<_> =
        std::iter::successors(Some(lengths.len()), |end| Some(start[*end])).take_while(|end| *end > 0).collect();
    ends.reverse();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn padded_tokens(lengths: &[usize], ends: &[usize]) -> usize {
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(start, end)| (end - start) * lengths[end - 1] + PASS_OVERHEAD_TOKENS).sum()
    }

    #[test]
    fn short_rows_are_not_padded_to_a_long_one() {
        let lengths = [vec![10; 64], vec![128; 8]].concat();
        assert_eq!(passes(&lengths), [64, 72]);
    }

    proptest! {
        #[test]
        fn passes_cover_all_rows_within_the_bound(mut lengths in prop::collection::vec(1_usize..512, 1..200)) {
            lengths.sort_unstable();
            let ends = passes(&lengths);
            prop_assert!(ends.is_sorted() && *ends.last().unwrap() == lengths.len());
            let starts = std::iter::once(&0).chain(&ends);
            for (start, end) in starts.zip(&ends) {
                prop_assert!(end > start && (end - start) * lengths[end - 1] <= PASS_TOKENS.max(lengths[end - 1]));
            }
            // Never dearer than one pass over everything, where that fits.
            if lengths.len() * lengths[lengths.len() - 1] <= PASS_TOKENS {
                prop_assert!(padded_tokens(&lengths, &ends) <= padded_tokens(&lengths, &[lengths.len()]));
            }
        }

        #[test]
        fn padding_is_masked_and_tokens_are_not(lengths in prop::collection::vec(1_usize..9, 1..6)) {
            let mut tokens = TokenRows::default();
            for (row, length) in lengths.iter().enumerate() {
                let ids: Vec<u32> = (1..=*length as u32).collect();
                tokens.push(row as i64, false, None, &ids, &vec![1; *length], 0);
            }
            let rows: Vec<_> = (0..lengths.len()).map(|row| (&tokens, row)).collect();
            let batch = Batch::new(&rows, 0, Device::Cpu);
            let longest = *lengths.iter().max().unwrap();
            prop_assert_eq!(batch.input_ids_bl.size(), [lengths.len() as i64, longest as i64]);
            prop_assert_eq!(batch.mask_b11l.is_none(), lengths.iter().all(|length| *length == longest));
            for (row, length) in lengths.iter().enumerate() {
                for place in 0..longest {
                    let at = [row as i64, place as i64];
                    let id = if place < *length { place as i64 + 1 } else { 0 };
                    prop_assert_eq!(batch.input_ids_bl.int64_value(&at), id);
                    prop_assert_eq!(batch.token_type_ids_bl.int64_value(&at), i64::from(place < *length));
                    if let Some(mask) = &batch.mask_b11l {
                        prop_assert_eq!(mask.double_value(&[at[0], 0, 0, at[1]]) < 0.0, place >= *length);
                    }
                }
            }
        }
    }
}
