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
    /// Of each leaf; none where it is frozen.
    depths: Vec<Option<usize>>,
}

impl Gradients {
    /// None yet, for a batch of those words, of all that lies at `least_depth` and above.
    pub(super) fn new(model: &Model, words: BatchWords, least_depth: usize) -> Self {
        let layers = model.config.num_hidden_layers;
        let depth_of = |name: &str| Some(depth(name, layers)).filter(|depth| *depth >= least_depth);
        let depths = model.leaves.iter().map(|leaf| depth_of(&leaf.name)).collect();
        let words_ud = depth_of(WORDS).map(|_| words.rows_ud.zeros_like());
        Self { leaves: model.leaves.iter().map(|_| None).collect(), words, words_ud, depths }
    }

    /// Adds those of one pass's loss.
    pub(super) fn add(&mut self, model: &Model, loss: &Tensor) {
        let words = self.words_ud.is_some().then(|| self.words.rows_ud.shallow_clone());
        let of_words = self.add_at(model, loss, |_| true, words.as_ref());
        self.add_words(of_words);
    }

    /// Adds those of the leaves at such depths, and returns that of another tensor, if one is asked for.
    pub(super) fn add_at(
        &mut self,
        model: &Model,
        loss: &Tensor,
        is_at: impl Fn(usize) -> bool,
        other: Option<&Tensor>,
    ) -> Option<Tensor> {
        let is_wanted: Vec<bool> = self.depths.iter().map(|depth| depth.is_some_and(&is_at)).collect();
        let wanted = model.leaves.iter().zip(&is_wanted).filter(|(_, wanted)| **wanted);
        let inputs: Vec<&Tensor> = wanted.map(|(leaf, _)| &leaf.used).chain(other).collect();
        if inputs.is_empty() {
            return None;
        }
        let mut computed = Tensor::run_backward(&[loss], &inputs, false, false);
        let of_other = other.and_then(|_| computed.pop());
        tch::no_grad(|| {
            let sums = self.leaves.iter_mut().zip(&is_wanted).filter(|(_, wanted)| **wanted);
            let given = sums.map(|(sum, _)| sum).zip(computed).filter(|(_, gradient)| gradient.defined());
            let (sums, gradients): (Vec<_>, Vec<_>) = given.unzip();
            for (sum, gradient) in sums.into_iter().zip(libtorch::in_fp32(gradients)) {
                match sum {
                    Some(sum) => *sum += gradient,
                    None => *sum = Some(gradient),
                }
            }
        });
        of_other
    }

    /// Adds those of the words' rows, where they are trained.
    pub(super) fn add_words(&mut self, of_words: Option<Tensor>) {
        if let (Some(words_ud), Some(of_words)) = (&mut self.words_ud, of_words) {
            tch::no_grad(|| *words_ud += of_words);
        }
    }

    /// The sum of those of two parts of a batch.
    pub(super) fn plus(mut self, other: Self) -> Self {
        tch::no_grad(|| {
            for (sum, more) in self.leaves.iter_mut().zip(other.leaves) {
                match (sum, more) {
                    (Some(sum), Some(more)) => *sum += more,
                    (sum @ None, more) => *sum = more,
                    (Some(_), None) => {}
                }
            }
        });
        self.add_words(other.words_ud);
        self
    }

    /// Global L2 norm, without dimensions.
    pub(super) fn norm(&self) -> Tensor {
        libtorch::norm(&self.leaves.iter().flatten().chain(&self.words_ud).collect::<Vec<_>>())
    }
}
