//! The words of a batch. A batch holds a few hundred of the vocabulary's tens of thousands; so gradients are taken of
//! their rows alone, not of the whole table.

use tch::Tensor;

use super::training_set::DrawnRows;
use crate::encoder::{Model, device::upload};

/// Name of the whole table.
pub(super) const WORDS: &str = "bert.embeddings.word_embeddings.weight";

#[derive(Debug)]
pub(super) struct BatchWords {
    /// Their ids, ascending.
    ids: Vec<i64>,
    /// Their rows of the word embeddings, which gradients are taken of.
    pub(super) rows_ud: Tensor,
}

/// Ids of a batch's words, ascending; the padding's among them.
pub(super) fn word_ids(batch: &DrawnRows, pad_id: u32) -> Vec<i64> {
    let mut ids: Vec<i64> = batch.rows.input_ids.iter().map(|id| i64::from(*id)).chain([i64::from(pad_id)]).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl BatchWords {
    pub(super) fn of(model: &Model, ids: Vec<i64>) -> Self {
        let index_u = upload(&ids, model.device);
        let rows_ud = tch::no_grad(|| model.words_vd.index_select(0, &index_u)).set_requires_grad(true);
        Self { ids, rows_ud }
    }

    pub(super) fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// The row that a word has among the batch's.
    pub(super) fn row_of(&self, id: i32) -> i64 {
        self.ids.binary_search(&i64::from(id)).expect("a word of the batch") as i64
    }
}
