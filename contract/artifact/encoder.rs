//! A Hugging Face encoder folder: which of its files are read, and by whom.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess};

use super::checkpoint::ModelInfo;
use super::tokens::TokenizerInfo;
use super::weights::{self, Unfit};
use crate::digest::Digest;
use crate::external::External;
use crate::fault::Fault;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const TOKENIZER: &str = "tokenizer.json";
pub const VOCABULARY: &str = "vocab.txt";
/// Files that say how the tokenizer behaves, copied along with a checkpoint where they exist.
pub const TOKENIZER_FILES: [&str; 4] = [TOKENIZER, VOCABULARY, TOKENIZER_CONFIG, "special_tokens_map.json"];
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The file that defines the tokenizer: `tokenizer.json`, or else `vocab.txt`.
pub fn tokenizer_file(folder: &Path) -> Result<PathBuf> {
    need_folder(folder)?;
    let found = [TOKENIZER, VOCABULARY].into_iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let message = format!("encoder folder `{}` has neither `{TOKENIZER}` nor `{VOCABULARY}`", folder.display());
        Fault::new(message, "copy the tokenizer's files from where the encoder came from").into()
    })
}

/// Names what the tokenizer does: digest of `tokenizer.json`; where there is none, of `vocab.txt` and of the settings
/// in `tokenizer_config.json`, which say whether letters are lower-cased.
pub fn tokenizer_digest(folder: &Path) -> Result<Digest> {
    let file = tokenizer_file(folder)?;
    let settings = folder.join(TOKENIZER_CONFIG);
    let digest = |path: &Path| Digest::of_file(path).with_context(|| format!("reading `{}`", path.display()));
    if file.ends_with(TOKENIZER) || !settings.is_file() {
        return digest(&file);
    }
    Ok(Digest::of(format!("{} {}", digest(&file)?, digest(&settings)?).as_bytes()))
}

/// Holds the tokenizer in `folder` (an encoder's, a checkpoint's or an ONNX model's) against the one that the rows of
/// the stage `tokens` were made with.
///
/// # Errors
/// When they differ, so that ids would mean other words.
pub fn check_tokenizer(folder: &Path, rows: &TokenizerInfo, tokens: &str) -> Result<()> {
    let of_export = ModelInfo::read(folder).ok().and_then(|info| info.tokenizer);
    if of_export.map_or_else(|| tokenizer_digest(folder), Ok)? == rows.digest {
        return Ok(());
    }
    let message = format!("`{tokens}` was tokenized by another tokenizer than that of `{}`", folder.display());
    Err(Fault::new(message, "make tokens and model from the same `encoder`").into())
}

/// What an encoder folder says of its kind and its sizes; nothing where a file is missing or lacks what it should have, which
/// whoever reads it whole will tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncoderSize {
    /// `bert`, if the encoder is one.
    pub model_type: Option<String>,
    pub layers: Option<usize>,
    /// Rows of the word embeddings.
    pub words: Option<usize>,
    pub positions: Option<usize>,
    /// Word pieces of the tokenizer.
    pub pieces: Option<usize>,
    /// A file that is no JSON, and why.
    pub broken: Option<Broken>,
    /// What keeps the weights from being those of the config.
    pub unfit: Option<Unfit>,
}

/// A file's name, and why it cannot be read.
pub type Broken = (&'static str, String);

impl EncoderSize {
    pub fn read(folder: &Path) -> Self {
        #[derive(Default, Deserialize)]
        struct Config {
            model_type: Option<String>,
            num_hidden_layers: Option<usize>,
            vocab_size: Option<usize>,
            max_position_embeddings: Option<usize>,
            hidden_size: Option<usize>,
        }
        let (config, pieces) = (parsed::<Config>(folder, CONFIG), pieces(folder));
        let broken = config.as_ref().err().or(pieces.as_ref().err()).cloned();
        let config = config.ok().flatten().unwrap_or_default();
        let embeddings = config.vocab_size.zip(config.hidden_size);
        Self {
            model_type: config.model_type,
            layers: config.num_hidden_layers,
            words: config.vocab_size,
            positions: config.max_position_embeddings,
            pieces: pieces.ok().flatten(),
            broken,
            unfit: embeddings.and_then(|(words, width)| weights::unfit(folder, words, width)),
        }
    }
}

/// Layers of an encoder, and numbers of a token in each, if its folder says so.
pub fn layers_and_width(folder: &Path) -> Option<(usize, usize)> {
    #[derive(Deserialize)]
    struct Config {
        num_hidden_layers: usize,
        hidden_size: usize,
    }
    let config: Config = parsed(folder, CONFIG).ok()??;
    Some((config.num_hidden_layers, config.hidden_size))
}

/// A JSON file, if it is there and holds what is wanted.
///
/// # Errors
/// When it is no JSON at all.
fn parsed<T: DeserializeOwned>(folder: &Path, name: &'static str) -> Result<Option<T>, Broken> {
    let Ok(text) = fs::read(folder.join(name)) else { return Ok(None) };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_data() => Ok(None),
        Err(error) => Err((name, error.to_string())),
    }
}

/// One more than the greatest id of `tokenizer.json`'s word pieces; else the lines of `vocab.txt`.
fn pieces(folder: &Path) -> Result<Option<usize>, Broken> {
    #[derive(Deserialize)]
    struct Tokenizer {
        model: Model,
        added_tokens: Vec<Added>,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: Greatest,
    }
    #[derive(Deserialize)]
    struct Added {
        id: usize,
    }
    if folder.join(TOKENIZER).is_file() {
        let greatest = |tokenizer: Tokenizer| {
            let added = tokenizer.added_tokens.iter().map(|token| token.id).max();
            added.max(tokenizer.model.vocab.0)
        };
        return Ok(parsed(folder, TOKENIZER)?.and_then(greatest).map(|id| id + 1));
    }
    Ok(fs::read_to_string(folder.join(VOCABULARY)).ok().map(|words| words.lines().count()))
}

/// The greatest id of a vocabulary, read without keeping its words: this is done whenever a pipeline is planned.
struct Greatest(Option<usize>);

impl<'de> Deserialize<'de> for Greatest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Greatest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("words and their ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut words: A) -> Result<Greatest, A::Error> {
                let mut greatest = None;
                while let Some((IgnoredAny, id)) = words.next_entry()? {
                    greatest = greatest.max(Some(id));
                }
                Ok(Greatest(greatest))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

pub(crate) fn tokenizer_files(folder: &Path) -> Result<Vec<External>> {
    tokenizer_file(folder)?;
    let present = TOKENIZER_FILES.into_iter().filter(|name| folder.join(name).is_file());
    Ok(present.map(|name| External::new(format!("encoder/{name}"), &folder.join(name))).collect())
}

pub(crate) fn all_files(folder: &Path) -> Result<Vec<External>> {
    let mut files = tokenizer_files(folder)?;
    for name in [CONFIG, WEIGHTS] {
        let path = folder.join(name);
        if !path.is_file() {
            let pickled = name == WEIGHTS && folder.join("pytorch_model.bin").is_file();
            let hint = if pickled {
                "it has a pickled `pytorch_model.bin`, which can run code when opened: convert it to safetensors"
            } else {
                "an encoder is a Hugging Face folder: config.json, model.safetensors, tokenizer.json or vocab.txt"
            };
            return Err(Fault::new(format!("encoder folder `{}` has no `{name}`", folder.display()), hint).into());
        }
        files.push(External::new(format!("encoder/{name}"), &path));
    }
    Ok(files)
}

fn need_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let on_hub = meant_of_hub(folder).map(|name| format!("; the Hugging Face hub's is written `hub:{name}`"));
    let hint = format!("`make setup` brings the default encoder{}", on_hub.unwrap_or_default());
    Err(Fault::new(format!("encoder folder `{}` does not exist", folder.display()), hint).into())
}

/// The repository of the hub that a path may have been meant for: `owner/name`, or the name of one of Google's BERTs, which
/// other programs take without their owner.
fn meant_of_hub(folder: &Path) -> Option<String> {
    let text = folder.to_str()?;
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    match *text.split('/').collect::<Vec<_>>() {
        [owner, name] if is_part(owner) && is_part(name) => Some(text.to_owned()),
        [name] if is_part(name) && name.starts_with("bert-") => Some(format!("google-bert/{name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_small_files() {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-bert");
        let size = EncoderSize::read(&tiny);
        let lines = fs::read_to_string(tiny.join(VOCABULARY)).unwrap().lines().count();
        assert_eq!(size.model_type.as_deref(), Some("bert"));
        assert_eq!((size.layers, size.positions), (Some(3), Some(64)));
        assert_eq!((size.words, size.pieces), (Some(lines), Some(lines)));
        assert_eq!(layers_and_width(&tiny), Some((3, 32)));

        let folder = tempfile::tempdir().unwrap();
        assert_eq!(EncoderSize::read(folder.path()), EncoderSize::default());
        fs::write(folder.path().join(CONFIG), "no JSON").unwrap();
        fs::write(folder.path().join(VOCABULARY), "[PAD]\n[UNK]\n").unwrap();
        let size = EncoderSize::read(folder.path());
        assert_eq!((size.pieces, size.layers, size.broken.map(|(file, _)| file)), (Some(2), None, Some(CONFIG)));
        fs::write(folder.path().join(CONFIG), "{}").unwrap();
        assert_eq!(EncoderSize::read(folder.path()), EncoderSize { pieces: Some(2), ..EncoderSize::default() });
    }

    #[test]
    fn settings_count_where_a_vocabulary_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let digest = || tokenizer_digest(folder.path()).unwrap();
        write(VOCABULARY, "[PAD]");
        let alone = digest();
        write(TOKENIZER_CONFIG, "{}");
        let with_settings = digest();
        write(TOKENIZER_CONFIG, r#"{"do_lower_case": false}"#);
        assert_ne!(alone, with_settings);
        assert_ne!(with_settings, digest());

        write(TOKENIZER, "{}");
        let whole = digest();
        assert_eq!(whole, Digest::of(b"{}"));
        write(TOKENIZER_CONFIG, "{}");
        assert_eq!(whole, digest());

        let mut rows = TokenizerInfo { digest: whole, vocabulary_size: 1, max_tokens: 8, pad_id: 0 };
        check_tokenizer(folder.path(), &rows, "tokens@rte").unwrap();
        rows.digest = alone;
        let error = check_tokenizer(folder.path(), &rows, "tokens@rte").unwrap_err().to_string();
        assert!(error.starts_with("`tokens@rte` was tokenized by another tokenizer than that of `"), "{error}");
    }
}
