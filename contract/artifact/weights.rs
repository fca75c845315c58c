//! Whether an encoder's weights fit its `config.json`, by the header of the safetensors file: no tensor is read.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

use safetensors::tensor::Metadata;

use super::encoder::{CONFIG, WEIGHTS};

/// The longest header that the format allows.
const MOST_HEADER_BYTES: u64 = 100_000_000;
const WORDS: [&str; 2] = ["embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"];

/// What is wrong with the weights, as it follows the file's name, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub what: String,
    pub hint: &'static str,
}

/// Holds the weights in an encoder's folder against its rows of word embeddings and their width. Nothing is said of a file that
/// isn't there.
pub(super) fn unfit(folder: &Path, words: usize, width: usize) -> Option<Unfit> {
    let damaged = |what: String| Some(Unfit { what, hint: "bring it anew from where the encoder came from" });
    let mut file = File::open(folder.join(WEIGHTS)).ok()?;
    let bytes = file.metadata().ok()?.len();
    let (tensors, whole_bytes) = match read(&mut file) {
        Ok(head) => head,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return damaged(format!("is cut off: it has {bytes} bytes, and not all of its header"));
        }
        Err(error) => return damaged(format!("is no safetensors file: {error}")),
    };
    if bytes < whole_bytes {
        return damaged(format!("is cut off: it has {bytes} of {whole_bytes} bytes"));
    }
    let hint = "take config.json, weights and tokenizer from the same encoder";
    let Some(shape) = WORDS.iter().find_map(|name| tensors.info(name)).map(|words| &words.shape) else {
        return Some(Unfit { what: format!("has no tensor `{}`: it is no BERT", WORDS[0]), hint });
    };
    let what = || format!("has word vectors of shape {shape:?}, but {CONFIG} tells of [{words}, {width}]");
    (*shape != [words, width]).then(|| Unfit { what: what(), hint })
}

/// Names and shapes of a safetensors file's tensors, and how long the file has to be, from its head alone: eight bytes of the
/// header's length, then the header as JSON.
pub(super) fn read(file: &mut impl Read) -> Result<(Metadata, u64), Error> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES {
        return Err(Error::other("it doesn't begin as one"));
    }
    let mut header = Vec::new();
    if file.take(length).read_to_end(&mut header)? < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let whole_bytes = 8 + length + metadata.data_len() as u64;
    Ok((metadata, whole_bytes))
}
