//! Gradients of a batch's loss, summed in fp32 over its passes.

use tch::{Kind, Tensor};

use super::words::BatchWords;
use crate::encoder::Model;

#[derive(Debug)]
pub(super) struct Gradients {
    /// Of each leaf of the model, in its order; none where the batch says nothing of it, as of a task's head without rows.
    pub(super) leaves: Vec<Option<Tensor>>,
    pub(super) words: BatchWords,
    /// Of the batch's rows of the word embeddings.
    pub(super) words_ud: Tensor,
}

impl Gradients {
    /// None yet, for a batch of those words.
    pub(super) fn new(model: &Model, words: BatchWords) -> Self {
        let words_ud = words.rows_ud.zeros_like();
        Self { leaves: model.leaves.iter().map(|_| None).collect(), words, words_ud }
    }

    /// Adds those of one pass's loss.
    pub(super) fn add(&mut self, model: &Model, loss: &Tensor) {
        let mut inputs: Vec<&Tensor> = model.leaves.iter().map(|leaf| &leaf.used).collect();
        inputs.push(&self.words.rows_ud);
        let mut computed = Tensor::run_backward(&[loss], &inputs, false, false);
        tch::no_grad(|| {
            self.words_ud += computed.pop().expect("one for each input");
            for (sum, gradient) in self.leaves.iter_mut().zip(computed) {
                if !gradient.defined() {
                    continue;
                }
                let gradient = gradient.to_kind(Kind::Float).contiguous();
                match sum {
                    Some(sum) => *sum += gradient,
                    None => *sum = Some(gradient),
                }
            }
        });
    }

    /// Global L2 norm.
    pub(super) fn norm(&self) -> f64 {
        let norms: Vec<_> = self.leaves.iter().flatten().chain([&self.words_ud]).map(Tensor::norm).collect();
        Tensor::stack(&norms, 0).norm().double_value(&[])
    }
}
