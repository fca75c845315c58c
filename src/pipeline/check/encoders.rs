//! Encoders, as far as their small files tell: depth, vocabulary and tokenizer of what a training starts from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bam_contract::artifact::encoder::{EncoderSize, tokenizer_digest};
use bam_contract::stage::StageSpec;

use super::Stages;
use crate::pipeline::mistake::Mistakes;

/// Sizes of each encoder folder, read once.
#[derive(Default)]
pub(super) struct Encoders(BTreeMap<PathBuf, EncoderSize>);

impl Encoders {
    fn size(&mut self, folder: &Path) -> EncoderSize {
        *self.0.entry(folder.to_owned()).or_insert_with(|| EncoderSize::read(folder))
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
            (StageSpec::Train(train), None) => self.size(train.encoder.as_ref()?).layers,
            _ => None,
        }
    }

    /// Layers that the encoder has, word vectors for all pieces, positions for all tokens, and the rows' tokenizer.
    pub(super) fn check(&mut self, at: usize, stages: &Stages<'_>, mistakes: &mut Mistakes) {
        let StageSpec::Train(train) = stages.spec(at) else { return };
        let name = stages.name(at);
        if let (Some(layers), Some(depth)) = (&train.layers, self.depth_before(at, stages))
            && let Some(lack) = layers.beyond(depth)
        {
            stages.mistake(at, &["layers"], format!("`layers` of stage `{name}`: {lack}"), None, mistakes);
        }
        let Some(folder) = encoder_of(at, stages) else { return };
        let size = self.size(folder);
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
            if differ(&tokenize.encoder, folder) {
                let message = format!(
                    "`{rows}` of stage `{name}` is tokenized by another tokenizer than that of `{}`",
                    folder.display()
                );
                let hint = "make tokens and model from the same `encoder`";
                stages.mistake(at, &place, message, Some(hint), mistakes);
            }
        }
    }
}

/// The folder that a model's tokenizer and first weights come from.
fn encoder_of<'a>(at: usize, stages: &Stages<'a>) -> Option<&'a Path> {
    match (stages.spec(at), stages.reads(at, "init")) {
        (StageSpec::Train(_), Some(init)) => encoder_of(init, stages),
        (StageSpec::Train(train), None) => train.encoder.as_deref(),
        _ => None,
    }
}

/// Whether the tokenizers of two folders differ; a folder without one is told of elsewhere.
fn differ(one: &Path, other: &Path) -> bool {
    one != other && matches!((tokenizer_digest(one), tokenizer_digest(other)), (Ok(one), Ok(other)) if one != other)
}
