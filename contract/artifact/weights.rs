//! Whether an encoder's weights fit its `config.json`, by the header of the safetensors file: no tensor is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

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

/// Header and data of a file, by their lengths.
struct Header {
    shapes: BTreeMap<String, Vec<usize>>,
    whole_bytes: u64,
}

#[derive(Deserialize)]
struct Entry {
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// An entry of the header, one of which is no tensor.
#[derive(Deserialize)]
#[serde(untagged)]
enum Any {
    Tensor(Entry),
    Other(IgnoredAny),
}

/// Holds the weights in an encoder's folder against its rows of word embeddings and their width. Nothing is said of a file that
/// isn't there.
pub(super) fn unfit(folder: &Path, words: usize, width: usize) -> Option<Unfit> {
    let damaged = |what: String| Some(Unfit { what, hint: "bring it anew from where the encoder came from" });
    let mut file = File::open(folder.join(WEIGHTS)).ok()?;
    let bytes = file.metadata().ok()?.len();
    let header = match read(&mut file) {
        Ok(header) => header,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return damaged(format!("is cut off: it has {bytes} bytes, and not all of its header"));
        }
        Err(error) => return damaged(format!("is no safetensors file: {error}")),
    };
    if bytes < header.whole_bytes {
        return damaged(format!("is cut off: it has {bytes} of {} bytes", header.whole_bytes));
    }
    let hint = "take config.json, weights and tokenizer from the same encoder";
    let Some(shape) = WORDS.iter().find_map(|name| header.shapes.get(*name)) else {
        return Some(Unfit { what: format!("has no tensor `{}`: it is no BERT", WORDS[0]), hint });
    };
    let what = || format!("has word vectors of shape {shape:?}, but {CONFIG} tells of [{words}, {width}]");
    (*shape != [words, width]).then(|| Unfit { what: what(), hint })
}

/// Eight bytes of the header's length, the header as JSON, then the data.
fn read(file: &mut impl Read) -> Result<Header, Error> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES {
        return Err(Error::other("it doesn't begin as one"));
    }
    let mut text = Vec::new();
    if file.take(length).read_to_end(&mut text)? < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let entries: BTreeMap<String, Any> = serde_json::from_slice(&text)?;
    let (mut shapes, mut end) = (BTreeMap::new(), 0);
    for (name, entry) in entries {
        if let Any::Tensor(Entry { shape, data_offsets }) = entry {
            end = end.max(data_offsets[1]);
            shapes.insert(name, shape);
        }
    }
    Ok(Header { shapes, whole_bytes: 8 + length + end })
}
