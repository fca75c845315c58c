//! Rows of unequal length as tensors: their tokens end to end, padded for attention alone.
//!
//! All that a layer computes for each token by itself runs over the tokens there are. Only attention needs rows side by
//! side, and there they are padded within groups of like length; where a kernel attends within rows end to end, nothing is.

use bam_contract::artifact::tokens::TokenRows;
use bam_inference::padding::rounded;
use tch::{Device, Kind, Tensor};

use super::device::upload;

/// Rows on a device: T tokens of B rows.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) input_ids_t: Tensor,
    pub(crate) token_type_ids_t: Tensor,
    /// Of each token, its place in its row.
    pub(crate) position_ids_t: Tensor,
    /// Of each row, where its first token is.
    pub(crate) first_b: Tensor,
    pub(super) attends: Attends,
}

/// Where a model's batches lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    pub(crate) device: Device,
    /// Whether a kernel there attends within rows end to end.
    pub(crate) is_end_to_end: bool,
}

/// How rows attend.
#[derive(Debug)]
pub(super) enum Attends {
    /// Side by side within groups.
    Padded(Groups),
    /// As they lie.
    EndToEnd(Lying),
}

#[derive(Debug)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    /// Tokens at the end that belong to no row.
    pub(super) unused: i64,
}

/// Of B rows end to end.
#[derive(Debug)]
pub(super) struct Lying {
    /// Where each begins and the last one ends: [B + 1].
    pub(super) starts: Tensor,
    /// The same, were each a single token long.
    pub(super) starts_of_first: Tensor,
    pub(super) longest: i64,
}

/// Rows that attend side by side: B rows of L places each.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rows: i64,
    pub(super) length: i64,
    pub(super) tokens: i64,
    /// None where all rows are of that length.
    ragged: Option<Ragged>,
}

#[derive(Debug)]
struct Ragged {
    /// Of each token, its place among those of all rows.
    place_t: Tensor,
    /// Of each place, its token; of padding, the one after the last.
    token_p: Tensor,
    /// 0 at tokens and a large negative number at padding, of shape [B, 1, 1, L].
    mask_b11l: Tensor,
}

/// Added to the attention scores of padding: as good as minus infinity, and a number in bf16 too.
const MASKED: f32 = -1e30;

/// libtorch compiles its matrix products for each shape anew; so there are few numbers of tokens.
const SIZES: usize = 64;

impl Batch {
    /// Rows in groups, each of which ends before the row that `ends` names. `id` says what the model is given for a token.
    pub(crate) fn new(
        rows: &[(&TokenRows, usize)],
        ends: &[usize],
        pad_id: u32,
        id: impl Fn(i32) -> i64,
        Placement { device, is_end_to_end }: Placement,
    ) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|(tokens, row)| tokens.tokens(*row)).collect();
        let (mut input_ids, mut token_type_ids, mut position_ids, mut starts) = (vec![], vec![], vec![], vec![]);
        for (tokens, row) in rows {
            starts.push(input_ids.len() as i64);
            input_ids.extend(tokens.input_ids(*row).iter().map(|token| id(*token)));
            token_type_ids.extend(tokens.token_type_ids(*row).iter().map(|kind| i64::from(*kind)));
            position_ids.extend((0..tokens.tokens(*row)).map(|place| place as i64));
        }
        let tokens = input_ids.len();
        starts.push(tokens as i64);
        let all = if is_end_to_end { tokens } else { tokens.next_multiple_of(SIZES) };
        input_ids.resize(all, id(pad_id as i32));
        token_type_ids.resize(all, 0);
        position_ids.resize(all, 0);
        // One way to the device for all of them.
        let parts = [input_ids, token_type_ids, position_ids, starts];
        let sizes = parts.each_ref().map(|part| part.len() as i64);
        let [input_ids_t, token_type_ids_t, position_ids_t, starts] =
            upload(&parts.concat(), device).split_with_sizes(sizes, 0).try_into().expect("as many as were joined");
        let first_b = starts.narrow(0, 0, rows.len() as i64);
        let attends = if is_end_to_end {
            Attends::EndToEnd(Lying {
                starts_of_first: Tensor::arange(rows.len() as i64 + 1, (Kind::Int, device)),
                starts: starts.to_kind(Kind::Int),
                longest: lengths.iter().max().map_or(0, |longest| *longest as i64),
            })
        } else {
            let begins = std::iter::once(&0).chain(ends);
            let groups = begins.zip(ends).map(|(start, end)| Group::new(&lengths[*start..*end], device)).collect();
            Attends::Padded(Groups { groups, unused: (all - tokens) as i64 })
        };
        Self { input_ids_t, token_type_ids_t, position_ids_t, first_b, attends }
    }
}

impl Groups {
    /// Tokens of each group, and those of none.
    pub(super) fn sizes(&self) -> Vec<i64> {
        self.groups.iter().map(|group| group.tokens).chain([self.unused]).collect()
    }
}

impl Group {
    fn new(lengths: &[usize], device: Device) -> Self {
        let (rows, tokens): (usize, usize) = (lengths.len(), lengths.iter().sum());
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let is_even = lengths.iter().all(|length| *length == longest);
        let length = if is_even { longest } else { rounded(longest) };
        let ragged = (!is_even).then(|| {
            let mut places = Vec::with_capacity(tokens);
            let mut token_of = vec![tokens as i64; rows * length];
            let mut mask = vec![MASKED; rows * length];
            for (row, of_row) in lengths.iter().enumerate() {
                for place in row * length..row * length + of_row {
                    token_of[place] = places.len() as i64;
                    mask[place] = 0.0;
                    places.push(place as i64);
                }
            }
            let shape = [rows as i64, 1, 1, length as i64];
            Ragged {
                place_t: upload(&places, device),
                token_p: upload(&token_of, device),
                mask_b11l: upload(&mask, device).view(shape),
            }
        });
        Self { rows: rows as i64, length: length as i64, tokens: tokens as i64, ragged }
    }

    /// The mask of padding in that format, of shape [B, 1, 1, L]; none where nothing is padded.
    pub(super) fn mask_b11l(&self, kind: Kind) -> Option<Tensor> {
        self.ragged.as_ref().map(|ragged| ragged.mask_b11l.to_kind(kind))
    }

    /// Tokens side by side: [T, X] becomes [B, L, X], zero at padding. (Putting by index, not taking: the gradient of putting is
    /// taking, which is fast, that of taking adds up.)
    pub(super) fn padded_blx(&self, tokens_tx: &Tensor) -> Tensor {
        let shape = [self.rows, self.length, -1];
        match &self.ragged {
            None => tokens_tx.view(shape),
            Some(Ragged { place_t, .. }) => {
                let places = zeros_like(tokens_tx, self.rows * self.length);
                places.index_put(&[Some(place_t)], tokens_tx, false).view(shape)
            }
        }
    }

    /// The way back.
    pub(super) fn unpadded_tx(&self, padded_blx: &Tensor) -> Tensor {
        let places_px = padded_blx.flatten(0, 1);
        match &self.ragged {
            None => places_px,
            Some(Ragged { token_p, .. }) => {
                let tokens = zeros_like(&places_px, self.tokens + 1);
                tokens.index_put(&[Some(token_p)], &places_px, false).narrow(0, 0, self.tokens)
            }
        }
    }
}

/// So many rows of zeros, as wide as those.
fn zeros_like(rows_tx: &Tensor, rows: i64) -> Tensor {
    Tensor::zeros([rows, rows_tx.size()[1]], (rows_tx.kind(), rows_tx.device()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_padded_and_come_back() {
        for lengths in [vec![3, 1, 4], vec![2, 2], vec![1], vec![8, 3]] {
            let group = Group::new(&lengths, Device::Cpu);
            let tokens = Tensor::randn([group.tokens, 5], (Kind::Float, Device::Cpu));
            let padded = group.padded_blx(&tokens);
            assert_eq!(group.unpadded_tx(&padded), tokens, "{lengths:?}");
            let kept: i64 = lengths.iter().sum::<usize>() as i64;
            assert_eq!(padded.abs().gt(0.0).sum(Kind::Int64).int64_value(&[]), kept * 5, "{lengths:?}");
            let masked = group.mask_b11l(Kind::Float).map_or(0, |mask| mask.lt(0.0).sum(Kind::Int64).int64_value(&[]));
            assert_eq!(masked, group.rows * group.length - kept, "{lengths:?}");
        }
    }
}
