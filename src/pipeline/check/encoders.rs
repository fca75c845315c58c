//! Encoders, as far as their small files and the header of the weights tell: depth, vocabulary and tokenizer of what a training
//! starts from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bam_contract::artifact::encoder::{EncoderSize, WEIGHTS, tokenizer_digest};
use bam_contract::stage::{StageSpec, TrainParams};
use bam_contract::task::TaskSpec;

use super::Stages;
use super::learning::{heads, task};
use crate::pipeline::mistake::Mistakes;

/// Sizes of each encoder folder, read once.
#[derive(Default)]
pub(super) struct Encoders(BTreeMap<PathBuf, EncoderSize>);

impl Encoders {
    /// Of the encoder that a stage names; nothing where it is still to be fetched.
    fn size(&mut self, at: usize, stages: &Stages<'_>) -> EncoderSize {
        let folder = stages.stages[at].folder().unwrap_or_default();
        self.0.entry(folder).or_insert_with_key(|folder| EncoderSize::read(folder)).clone()
    }

    /// Layers that a model has, as far as is known.
    fn depth(&mut self, at: usize, stages: &Stages<'_>) -> Option<usize> {
        let StageSpec::Train(train) = stages.spec(at) else { return None };
        if let Some(layers) = &train.layers {
            return Some(layers.count());
        }
        self.depth_before(at, stages)
    }

    /// Layers of what a training starts from.
    fn depth_before(&mut self, at: usize, stages: &Stages<'_>) -> Option<usize> {
        match (stages.spec(at), stages.reads(at, "init")) {
            (StageSpec::Train(_), Some(init)) => self.depth(init, stages),
            (StageSpec::Train(_), None) => self.size(at, stages).layers,
            _ => None,
        }
    }

    pub(super) fn check(&mut self, at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
        match stages.spec(at) {
            StageSpec::Train(train) => self.check_training(at, train, stages, mistakes),
            StageSpec::Predict(_) => {
                if let (Some(model), Some(tokens)) = (stages.reads(at, "model"), stages.reads(at, "tokens")) {
                    check_tokenizer(at, &["tokens"], model, tokens, stages, mistakes);
                }
            }
            StageSpec::Score(score) => {
                let models = score.models.iter().filter_map(|model| stages.reads(at, &format!("models.{model}")));
                for model in models {
                    let heads = heads(model, stages).unwrap_or_default();
                    for (position, tokens) in stages.listed(at, "tokens") {
                        let is_scored = |task: &TaskSpec| heads.iter().any(|head| head.name == task.head());
                        if task(tokens, stages).is_some_and(is_scored) {
                            let place = ["tokens", &position.to_string()];
                            check_tokenizer(at, &place, model, tokens, stages, mistakes);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Layers that the encoder has, word vectors for all pieces, positions for all tokens, and the rows' tokenizer.
    fn check_training(&mut self, at: usize, train: &TrainParams, stages: &Stages<'_>, mistakes: &mut Mistakes) {
        let name = stages.name(at);
        if let (Some(layers), Some(depth)) = (&train.layers, self.depth_before(at, stages))
            && let Some(lack) = layers.beyond(depth)
        {
            stages.mistake(at, &["layers"], format!("`layers` of stage `{name}`: {lack}"), None, mistakes);
        }
        let Some(first) = first_of(at, stages) else { return };
        let size = self.size(first, stages);
        let Some((_, folder)) = stages.spec(first).folder() else { return };
        if let Some((file, error)) = size.broken.filter(|_| first == at) {
            let message = format!("`{file}` of the encoder in `{}` is no JSON: {error}", folder.display());
            stages.mistake(at, &["encoder"], message, Some("bring it anew from where the encoder came from"), mistakes);
            return;
        }
        if let Some(other) = size.model_type.as_deref().filter(|model_type| *model_type != "bert") {
            let message = format!("the encoder in `{}` is of type `{other}`", folder.display());
            stages.mistake(at, &["encoder"], message, Some("encoders are of type `bert`, of any size"), mistakes);
            return;
        }
        if let Some(unfit) = size.unfit.filter(|_| first == at) {
            let message = format!("`{WEIGHTS}` of the encoder in `{}` {}", folder.display(), unfit.what);
            stages.mistake(at, &["encoder"], message, Some(unfit.hint), mistakes);
        }
        if let (Some(pieces), Some(words)) = (size.pieces, size.words)
            && pieces > words
        {
            let message = format!(
                "the tokenizer in `{}` has {pieces} pieces, the encoder {words} word vectors",
                folder.display()
            );
            let hint = "take config.json, weights and tokenizer from the same encoder";
            stages.mistake(at, &["encoder"], message, Some(hint), mistakes);
        }
        for (position, tokens) in stages.listed(at, "tokens") {
            let StageSpec::Tokenize(tokenize) = stages.spec(tokens) else { continue };
            let place = ["tokens", &position.to_string()];
            let rows = stages.name(tokens);
            if size.positions.is_some_and(|positions| tokenize.max_tokens > positions) {
                let (longest, positions) = (tokenize.max_tokens, size.positions.unwrap_or_default());
                let message = format!(
                    "`{rows}` of stage `{name}` has rows of up to {longest} tokens, but the encoder has {positions} positions"
                );
                stages.mistake(at, &place, message, Some("lower its `max_tokens`"), mistakes);
            }
            check_tokenizer(at, &place, at, tokens, stages, mistakes);
        }
    }
}

/// A model reads rows that its own tokenizer made.
fn check_tokenizer(
    at: usize,
    place: &[&str],
    model: usize,
    tokens: usize,
    stages: &Stages<'_>,
    mistakes: &mut Mistakes,
) {
    let Some(first) = first_of(model, stages) else { return };
    if !matches!(stages.spec(tokens), StageSpec::Tokenize(_)) {
        return;
    }
    if differ(stages.stages[tokens].folder(), stages.stages[first].folder()) {
        let of = match stages.spec(first).folder() {
            Some((_, folder)) if model == at => format!("`{}`", folder.display()),
            _ => format!("its model `{}`", stages.name(model)),
        };
        let (rows, name) = (stages.name(tokens), stages.name(at));
        let message = format!("`{rows}` of stage `{name}` is tokenized by another tokenizer than that of {of}");
        stages.mistake(at, place, message, Some("make tokens and model from the same `encoder`"), mistakes);
    }
}

/// The training whose encoder a model's tokenizer and first weights come from.
fn first_of(at: usize, stages: &Stages<'_>) -> Option<usize> {
    match (stages.spec(at), stages.reads(at, "init")) {
        (StageSpec::Export(_), _) => first_of(stages.reads(at, "model")?, stages),
        (StageSpec::Train(_), Some(init)) => first_of(init, stages),
        (StageSpec::Train(_), None) => Some(at),
        _ => None,
    }
}

/// Whether the tokenizers of two folders differ; a folder without one is told of elsewhere.
fn differ(one: Option<PathBuf>, other: Option<PathBuf>) -> bool {
    let digest = |folder: Option<PathBuf>| tokenizer_digest(&folder?).ok();
    one != other && matches!((digest(one), digest(other)), (Some(one), Some(other)) if one != other)
}
