//! The tokenizer of a Hugging Face encoder folder.

use std::path::Path;

use anyhow::{Context, Error, Result};
use bam_contract::artifact::encoder::{TOKENIZER, tokenizer_file};
use bam_contract::fault::Fault;
use rayon::ThreadPoolBuilder;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Deserialize;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::utils::parallelism::{get_parallelism, set_parallelism};
use tokenizers::{AddedToken, Tokenizer};

use crate::segments::{SEGMENT_BYTES, Segments};
use crate::words::Words;

const CLS: &str = "[CLS]";
const SEP: &str = "[SEP]";
const PAD: &str = "[PAD]";
const UNKNOWN: &str = "[UNK]";
const MASK: &str = "[MASK]";

#[derive(Debug)]
pub struct WordPieces {
    tokenizer: Tokenizer,
    segments: Segments,
    words: Option<Words>,
    pub cls_id: u32,
    pub sep_id: u32,
    pub pad_id: u32,
}

/// One word piece of a text; its place is counted in characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub id: u32,
    pub token: String,
    pub start: usize,
    pub end: usize,
}

/// What `tokenizer_config.json` says of a tokenizer that is only a vocabulary; BERT's own settings where
/// it says nothing.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    do_lower_case: bool,
    /// Without it accents go when letters are lowered.
    strip_accents: Option<bool>,
    tokenize_chinese_chars: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { do_lower_case: true, strip_accents: None, tokenize_chinese_chars: true }
    }
}

/// Has each call tokenize on its own thread alone: for a program that makes calls side by side.
pub fn keep_to_one_thread() {
    set_parallelism(false);
}

/// Has all calls tokenize on so many threads.
///
/// # Errors
/// When threads were taken for it already, or can't be had.
pub fn keep_to_threads(threads: usize) -> Result<()> {
    ThreadPoolBuilder::new().num_threads(threads).build_global().context("starting the threads that tokenize")
}

impl WordPieces {
    /// # Errors
    /// When the folder has no tokenizer that can be read, or one without BERT's special tokens.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = tokenizer_file(folder)?;
        let tokenizer = if path.ends_with(TOKENIZER) { whole(&path)? } else { from_vocabulary(&path, folder)? };
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| {
                let message = format!("the tokenizer `{}` has no `{token}`", path.display());
                Fault::new(
                    message,
                    "only encoders of BERT's kind fit, whose tokenizer has [CLS], [SEP], [PAD] and [UNK]",
                )
            })
        };
        id(UNKNOWN)?;
        let (cls_id, sep_id, pad_id) = (id(CLS)?, id(SEP)?, id(PAD)?);
        Ok(Self { segments: Segments::of(&tokenizer), words: Words::of(&tokenizer), tokenizer, cls_id, sep_id, pad_id })
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Ids of each text by itself, without special tokens and uncut; in parallel, in the same order.
    pub fn encode<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<u32>>> {
        let texts: Vec<_> = texts.collect();
        if get_parallelism() {
            texts.into_par_iter().map(|text| self.ids(text)).collect()
        } else {
            texts.into_iter().map(|text| self.ids(text)).collect()
        }
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        for segment in self.segments.cut(text, SEGMENT_BYTES) {
            match &self.words {
                Some(words) if words.can_cut(segment) => words.cut(segment, &self.tokenizer, &mut ids),
                _ => self.tokenizer.encode_fast(segment, false).map(|encoding| ids.extend(encoding.get_ids())),
            }
            .map_err(Error::from_boxed)
            .context("tokenizing")?;
        }
        Ok(ids)
    }

    /// The first pieces of one text, as many as there are or as `most`, with their places in it.
    pub fn pieces(&self, text: &str, most: usize) -> Result<Vec<Piece>> {
        let (mut pieces, mut before) = (Vec::new(), 0);
        for segment in self.segments.cut(text, SEGMENT_BYTES) {
            let encoding = self.tokenizer.encode_char_offsets(segment, false);
            let encoding = encoding.map_err(Error::from_boxed).context("tokenizing")?;
            let tokens = encoding.get_ids().iter().zip(encoding.get_tokens()).zip(encoding.get_offsets());
            let piece = |((id, token), (start, end)): ((&u32, &String), &(usize, usize))| Piece {
                id: *id,
                token: token.clone(),
                start: before + start,
                end: before + end,
            };
            pieces.extend(tokens.map(piece).take(most - pieces.len()));
            if pieces.len() == most {
                break;
            }
            before += segment.chars().count();
        }
        Ok(pieces)
    }
}

/// A `tokenizer.json`, its own padding and truncation switched off.
fn whole(path: &Path) -> Result<Tokenizer> {
    let read = Tokenizer::from_file(path).map_err(Error::from_boxed);
    let mut tokenizer = read.with_context(|| format!("reading the tokenizer `{}`", path.display()))?;
    tokenizer.with_padding(None).with_truncation(None).map_err(Error::from_boxed)?;
    Ok(tokenizer)
}

/// BERT's tokenizer around a `vocab.txt`.
fn from_vocabulary(path: &Path, folder: &Path) -> Result<Tokenizer> {
    let config = folder.join("tokenizer_config.json");
    let config: Config = if config.is_file() {
        let text = std::fs::read_to_string(&config).with_context(|| format!("reading `{}`", config.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` is not a tokenizer's settings", config.display()))?
    } else {
        Config::default()
    };
    let vocabulary = WordPiece::read_file(&path.to_string_lossy()).map_err(Error::from_boxed);
    let vocabulary = vocabulary.with_context(|| format!("reading the vocabulary `{}`", path.display()))?;
    // They stand for themselves where a text holds them, as in `transformers`.
    let special = [PAD, UNKNOWN, CLS, SEP, MASK].into_iter().filter(|token| vocabulary.contains_key(*token));
    let special: Vec<_> = special.map(|token| AddedToken::from(token, true)).collect();
    let model = WordPiece::builder()
        .vocab(vocabulary)
        .unk_token(UNKNOWN.to_owned())
        .continuing_subword_prefix("##".to_owned())
        .max_input_chars_per_word(100)
        .build()
        .map_err(Error::from_boxed)?;
    let mut tokenizer = Tokenizer::new(model);
    let normalizer =
        BertNormalizer::new(true, config.tokenize_chinese_chars, config.strip_accents, config.do_lower_case);
    tokenizer.with_normalizer(Some(normalizer)).with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_many_segments_has_the_librarys_pieces() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-bert");
        let word_pieces = WordPieces::open(&folder).unwrap();
        let text = format!("{}{}", "It is not good, \u{e9}\u{300}. ".repeat(1500), "the movie! ".repeat(3000));
        assert!(text.len() > 3 * SEGMENT_BYTES);
        let whole = word_pieces.tokenizer.encode_char_offsets(text.as_str(), false).unwrap();
        assert_eq!(word_pieces.encode([text.as_str()].into_iter()).unwrap(), [whole.get_ids()]);
        let count = whole.len();
        for most in [0, 1, count / 2, count - 1, count, count + 1] {
            let pieces = word_pieces.pieces(&text, most).unwrap();
            assert_eq!(pieces.len(), most.min(count));
            for (piece, at) in pieces.into_iter().zip(0..) {
                let (start, end) = whole.get_offsets()[at];
                assert_eq!(piece, Piece { id: whole.get_ids()[at], token: whole.get_tokens()[at].clone(), start, end });
            }
        }
    }
}
