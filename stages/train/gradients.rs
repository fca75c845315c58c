//! Gradients of a batch's loss, summed in fp32 over its passes.

use tch::Tensor;

use super::rates::depth;
use super::words::{BatchWords, WORDS};
use crate::encoder::Model;
use crate::libtorch;

#[derive(Debug)]
pub(super) struct Gradients {
    /// Of each leaf of the model, in its order; none where it is frozen, or where the batch says nothing of it, as of a
    /// task's head without rows.
    pub(super) leaves: Vec<Option<Tensor>>,
    pub(super) words: BatchWords,
    /// Of the batch's rows of the word embeddings; none where those are frozen.
    pub(super) words_ud: Option<Tensor>,
    /// Which leaves are trained.
    trained: Vec<bool>,
}

impl Gradients {
    /// None yet, for a batch of those words, of all that lies at `least_depth` and above.
    pub(super) fn new(model: &Model, words: BatchWords, least_depth: usize) -> Self {
        let layers = model.config.num_hidden_layers;
        let trained = model.leaves.iter().map(|leaf| depth(&leaf.name, layers) >= least_depth).collect();
        let words_ud = (depth(WORDS, layers) >= least_depth).then(|| words.rows_ud.zeros_like());
        Self { leaves: model.leaves.iter().map(|_| None).collect(), words, words_ud, trained }
    }

    /// Adds those of one pass's loss.
    pub(super) fn add(&mut self, model: &Model, loss: &Tensor) {
        let trained = model.leaves.iter().zip(&self.trained).filter(|(_, trained)| **trained);
        let mut inputs: Vec<&Tensor> = trained.map(|(leaf, _)| &leaf.used).collect();
        inputs.extend(self.words_ud.is_some().then_some(&self.words.rows_ud));
        let mut computed = Tensor::run_backward(&[loss], &inputs, false, false);
        tch::no_grad(|| {
            if let Some(words_ud) = &mut self.words_ud {
                *words_ud += computed.pop().expect("one for each input");
            }
            let sums = self.leaves.iter_mut().zip(&self.trained).filter(|(_, trained)| **trained);
            let given = sums.map(|(sum, _)| sum).zip(computed).filter(|(_, gradient)| gradient.defined());
            let (sums, gradients): (Vec<_>, Vec<_>) = given.unzip();
            for (sum, gradient) in sums.into_iter().zip(libtorch::in_fp32(gradients)) {
                match sum {
                    Some(sum) => *sum += gradient,
                    None => *sum = Some(gradient),
                }
            }
        });
    }

    /// Global L2 norm, without dimensions.
    pub(super) fn norm(&self) -> Tensor {
        libtorch::norm(&self.leaves.iter().flatten().chain(&self.words_ud).collect::<Vec<_>>())
    }
}
