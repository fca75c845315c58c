//! Attention of a batch's tokens within their rows, which are padded for it or lie end to end.

use tch::{Kind, Tensor};

use super::Batch;
use super::batch::{Attends, Group, Groups, Lying};
use super::config::BertConfig;
use super::dropout::Dropout;
use crate::libtorch::{self, Ends};

/// Of all tokens: queries, keys and values lie one after the other in [T, 3 D]; what becomes of them is [T, D].
pub(super) fn of_all_td(joined_t3d: &Tensor, batch: &Batch, dropout: &Dropout, config: &BertConfig) -> Tensor {
    match &batch.attends {
        Attends::Padded(groups) => attend_padded_td(joined_t3d, groups, dropout, config),
        Attends::EndToEnd(rows) => {
            let [query, key, value] = lying_by_head(joined_t3d, config);
            let all = rows.all();
            attend_lying([&query, &key, &value], &all, &all, dropout, config)
        }
    }
}

/// Of each row's first token, [B, D], to all of its row, whose keys and values are [T, 2 D].
pub(super) fn of_first_bd(
    queries_bd: &Tensor,
    joined_t2d: &Tensor,
    batch: &Batch,
    dropout: &Dropout,
    config: &BertConfig,
) -> Tensor {
    match &batch.attends {
        Attends::Padded(groups) => attend_first_padded_bd(queries_bd, joined_t2d, groups, dropout, config),
        Attends::EndToEnd(rows) => {
            let [query] = lying_by_head(queries_bd, config);
            let [key, value] = lying_by_head(joined_t2d, config);
            attend_lying([&query, &key, &value], &rows.first(), &rows.all(), dropout, config)
        }
    }
}

fn attend_padded_td(joined_t3d: &Tensor, groups: &Groups, dropout: &Dropout, config: &BertConfig) -> Tensor {
    let parts = joined_t3d.split_with_sizes(groups.sizes(), 0);
    let mut contexts: Vec<Tensor> = Vec::new();
    for (group, part_t3d) in groups.groups.iter().zip(&parts) {
        let [query, key, value] = by_head(&group.padded_blx(part_t3d), config);
        let context_bld = attention([&query, &key, &value], group, dropout, config);
        contexts.push(group.unpadded_tx(&context_bld));
    }
    let unused = [groups.unused, config.hidden_size as i64];
    contexts.push(Tensor::zeros(unused, (joined_t3d.kind(), joined_t3d.device())));
    Tensor::cat(&contexts, 0)
}

fn attend_first_padded_bd(
    queries_bd: &Tensor,
    joined_t2d: &Tensor,
    groups: &Groups,
    dropout: &Dropout,
    config: &BertConfig,
) -> Tensor {
    let rows: Vec<i64> = groups.groups.iter().map(|group| group.rows).collect();
    let parts = queries_bd.split_with_sizes(rows, 0).into_iter().zip(joined_t2d.split_with_sizes(groups.sizes(), 0));
    let contexts: Vec<Tensor> = parts
        .zip(&groups.groups)
        .map(|((queries_bd, part_t2d), group)| {
            let [query] = by_head(&queries_bd.unsqueeze(1), config);
            let [key, value] = by_head(&group.padded_blx(&part_t2d), config);
            attention([&query, &key, &value], group, dropout, config).squeeze_dim(1)
        })
        .collect();
    Tensor::cat(&contexts, 0)
}

/// Attention within rows that lie end to end: [Q, D].
fn attend_lying(
    parts: [&Tensor; 3],
    queries: &Ends<'_>,
    keys: &Ends<'_>,
    dropout: &Dropout,
    config: &BertConfig,
) -> Tensor {
    let p = dropout.of_kernel(config.attention_probs_dropout_prob);
    libtorch::attention(parts, queries, keys, p).flatten(1, 2)
}

impl Lying {
    fn all(&self) -> Ends<'_> {
        Ends { starts: &self.starts, longest: self.longest }
    }

    /// Each row's first token alone.
    fn first(&self) -> Ends<'_> {
        Ends { starts: &self.starts_of_first, longest: 1 }
    }
}

/// Of vectors that lie end to end, [T, N D], each by itself and by heads: [T, H, E].
fn lying_by_head<const N: usize>(joined_tx: &Tensor, config: &BertConfig) -> [Tensor; N] {
    let parts = joined_tx.view([joined_tx.size()[0], N as i64, config.num_attention_heads as i64, -1]);
    parts.unbind(1).try_into().expect("as many as were joined")
}

/// Of vectors that lie side by side, [B, L, N D], each by itself and by heads: [B, H, L, E].
fn by_head<const N: usize>(joined: &Tensor, config: &BertConfig) -> [Tensor; N] {
    let (b, l, _) = joined.size3().expect("hidden states have three dimensions");
    let parts = joined.view([b, l, N as i64, config.num_attention_heads as i64, -1]).permute([2, 0, 3, 1, 4]);
    parts.unbind(0).try_into().expect("as many as were joined")
}

/// softmax(Q K^T / sqrt(E) + mask) V over all heads, for Q queries a row: [B, Q, D].
fn attention(
    [query_bhqe, key_bhle, value_bhle]: [&Tensor; 3],
    group: &Group,
    dropout: &Dropout,
    config: &BertConfig,
) -> Tensor {
    let mask_b11l = group.mask_b11l(query_bhqe.kind());
    let context_bhqe = if dropout.is_on() {
        let width = query_bhqe.size()[3] as f64;
        let scores_bhql = (query_bhqe * width.sqrt().recip()).matmul(&key_bhle.transpose(-2, -1));
        let scores_bhql = mask_b11l.map_or_else(|| scores_bhql.shallow_clone(), |mask| &scores_bhql + mask);
        let weights_bhql = scores_bhql.softmax(-1, None::<Kind>);
        dropout.apply(&weights_bhql, config.attention_probs_dropout_prob).matmul(value_bhle)
    } else {
        Tensor::scaled_dot_product_attention(query_bhqe, key_bhle, value_bhle, mask_b11l, 0.0, false, None, false)
    };
    context_bhqe.transpose(1, 2).flatten(2, 3)
}
