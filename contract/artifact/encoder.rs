//! A Hugging Face encoder folder: which of its files are read, and by whom.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::external::External;
use crate::fault::Fault;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const TOKENIZER: &str = "tokenizer.json";
pub const VOCABULARY: &str = "vocab.txt";
/// Files that say how the tokenizer behaves, copied along with a checkpoint where they exist.
pub const TOKENIZER_FILES: [&str; 4] = [TOKENIZER, VOCABULARY, "tokenizer_config.json", "special_tokens_map.json"];

/// The file that defines the tokenizer: `tokenizer.json`, or else `vocab.txt`.
pub fn tokenizer_file(folder: &Path) -> Result<PathBuf> {
    need_folder(folder)?;
    let found = [TOKENIZER, VOCABULARY].into_iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let message = format!("encoder folder `{}` has neither `{TOKENIZER}` nor `{VOCABULARY}`", folder.display());
        Fault::new(message, "copy the tokenizer's files from where the encoder came from").into()
    })
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
    let hint = "`make setup` brings the default encoder; another is named with `--set vars.encoder=DIR`";
    Err(Fault::new(format!("encoder folder `{}` does not exist", folder.display()), hint).into())
}
