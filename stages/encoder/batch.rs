//! Rows of unequal length as tensors: their tokens end to end, padded for attention alone.
//!
//! All that a layer computes for each token by itself runs over the tokens there are. Only attention needs rows side by
//! side, and there they are padded within groups of like length.

use bam_contract::artifact::tokens::TokenRows;
use bam_inference::padding::rounded;
use tch::{Device, Kind, Tensor};

/// Rows on a device: T tokens of B rows.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) input_ids_t: Tensor,
    pub(crate) token_type_ids_t: Tensor,
    /// Of each token, its place in its row.
    pub(crate) position_ids_t: Tensor,
    /// Of each row, where its first token is.
    pub(crate) first_b: Tensor,
    pub(super) groups: Vec<Group>,
    /// Tokens at the end that belong to no row.
    pub(super) unused: i64,
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
        device: Device,
    ) -> Self {
        let length = |(tokens, row): &(&TokenRows, usize)| tokens.tokens(*row);
        let (mut input_ids, mut token_type_ids, mut position_ids, mut first) = (vec![], vec![], vec![], vec![]);
        for (tokens, row) in rows {
            first.push(input_ids.len() as i64);
            input_ids.extend(tokens.input_ids(*row).iter().map(|token| id(*token)));
            token_type_ids.extend(tokens.token_type_ids(*row).iter().map(|kind| i64::from(*kind)));
            position_ids.extend((0..tokens.tokens(*row)).map(|place| place as i64));
        }
        let tokens = input_ids.len();
        let all = tokens.next_multiple_of(SIZES);
        input_ids.resize(all, id(pad_id as i32));
        token_type_ids.resize(all, 0);
        position_ids.resize(all, 0);
        let mut start = 0;
        let mut group = |end: &usize| {
            let lengths: Vec<usize> = rows[start..*end].iter().map(length).collect();
            start = *end;
            Group::new(&lengths, device)
        };
        let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Self {
            input_ids_t: tensor(&input_ids),
            token_type_ids_t: tensor(&token_type_ids),
            position_ids_t: tensor(&position_ids),
            first_b: tensor(&first),
            groups: ends.iter().map(&mut group).collect(),
            unused: (all - tokens) as i64,
        }
    }

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
                place_t: Tensor::from_slice(&places).to_device(device),
                token_p: Tensor::from_slice(&token_of).to_device(device),
                mask_b11l: Tensor::from_slice(&mask).view(shape).to_device(device),
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
