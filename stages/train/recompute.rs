//! A pass that keeps no activations (activation checkpointing, Chen et al. 2016): the way there notes what each layer was given, the
//! way back computes one layer again after the other, and takes its gradients.

use tch::{Kind, Tensor};

use super::gradients::Gradients;
use crate::encoder::{Batch, Dropout, Mark, Model};

#[derive(Debug)]
pub(super) struct Pass<'a> {
    model: &'a Model,
    batch: &'a Batch,
    words_ud: Tensor,
    dropout: &'a Dropout,
    /// Before the embeddings, and before each layer.
    marks: Vec<Mark>,
    /// What each layer was given.
    given: Vec<Tensor>,
    /// What the last layer made: a leaf, of which the loss has a gradient.
    pub(super) last_bd: Tensor,
}

impl<'a> Pass<'a> {
    pub(super) fn forward(model: &'a Model, batch: &'a Batch, words_ud: Tensor, dropout: &'a Dropout) -> Self {
        let (mut marks, mut given) = (vec![dropout.mark()], Vec::new());
        let last_bd = tch::no_grad(|| {
            let mut hidden = model.embed_td(batch, &words_ud, dropout);
            for at in 0..model.config.num_hidden_layers {
                marks.push(dropout.mark());
                let next = model.layer(at, &hidden, batch, dropout);
                given.push(std::mem::replace(&mut hidden, next));
            }
            hidden
        });
        // The heads drop too.
        dropout.mark();
        Self { model, batch, words_ud, dropout, marks, given, last_bd: last_bd.set_requires_grad(true) }
    }

    /// Adds the gradients of the loss that was computed from `last_bd`, down to that depth.
    pub(super) fn backward(self, loss: &Tensor, gradients: &mut Gradients, least_depth: usize) {
        let Self { model, batch, words_ud, dropout, marks, mut given, last_bd } = self;
        let end = dropout.mark();
        let layers = given.len();
        let mut of_output = gradients.add_at(model, loss, |depth| depth > layers, Some(&last_bd));
        while let Some(hidden) = given.pop() {
            let depth = given.len() + 1;
            let Some(gradient) = of_output.take().filter(|_| depth >= least_depth) else { break };
            let hidden = hidden.set_requires_grad(true);
            dropout.rewind(marks[depth]);
            let output = model.layer(depth - 1, &hidden, batch, dropout);
            of_output = gradients.add_at(model, &product(&output, &gradient), |at| at == depth, Some(&hidden));
        }
        if let Some(gradient) = of_output.filter(|_| least_depth == 0) {
            dropout.rewind(marks[0]);
            let embedded_td = model.embed_td(batch, &words_ud, dropout);
            let of_words = gradients.add_at(model, &product(&embedded_td, &gradient), |at| at == 0, Some(&words_ud));
            gradients.add_words(of_words);
        }
        dropout.rewind(end);
    }
}

/// A number whose gradient with respect to `output` is `gradient`.
fn product(output: &Tensor, gradient: &Tensor) -> Tensor {
    (output * gradient).sum(Kind::Float)
}
