//! What an artifact's folder says of itself, in `manifest.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::artifact::{ArtifactKind, history, scores};
use crate::digest::{Digest, Fingerprint};

/// The name of a computation, spelt out. Its canonical JSON is what a [`Fingerprint`] is the hash of,
/// and the stored copy explains later why a stage reran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub kind: String,
    pub version: u32,
    /// Parameters with defaults filled in, references left out.
    pub params: Value,
    /// Content of each artifact read, by slot.
    pub inputs: BTreeMap<String, Digest>,
    /// Content of each file read from outside the store, by slot.
    pub external: BTreeMap<String, Digest>,
}

impl Key {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&canonical(&serde_json::to_value(self).expect("a key is plain data")))
    }
}

/// JSON with sorted names and no spaces. Spelt out, because `serde_json` keeps or sorts names
/// depending on a feature that any dependency may switch on.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields: Vec<_> =
                sorted.iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub fingerprint: Fingerprint,
    /// The stage that made it, by the name it had then.
    pub stage: String,
    pub artifact: ArtifactKind,
    pub key: Key,
    /// Digest of all files' content, without the fingerprint they carry: what stages that read this artifact depend on.
    pub content: Digest,
    pub files: BTreeMap<String, FileEntry>,
    /// One line for a person.
    pub summary: String,
    pub metrics: BTreeMap<String, f64>,
    pub provenance: Provenance,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub size_bytes: u64,
    /// BLAKE3 of the bytes, as `b3sum` prints it.
    pub digest: Digest,
    /// BLAKE3 of the bytes with the fingerprint masked.
    pub content: Digest,
}

/// A worker's fact: the seconds spent on the stage before it went on from a state that was kept.
pub const EARLIER_SECS: &str = "seconds_before_resuming";

/// How it came about; recorded, never hashed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Seconds since 1970, UTC.
    pub finished_unix_secs: u64,
    /// All that was spent on it, before it went on from a kept state too.
    pub wall_secs: f64,
    pub peak_memory_bytes: u64,
    pub host: String,
    pub threads: usize,
    pub device: String,
    pub bam_version: String,
    pub git_revision: Option<String>,
    /// What the worker says of itself: library versions and the like.
    pub worker: Map<String, Value>,
}

impl Manifest {
    /// What is wrong with it as the manifest of a computation, if anything.
    pub fn mistake(&self, fingerprint: Fingerprint) -> Option<&'static str> {
        if self.fingerprint != fingerprint || self.key.fingerprint() != fingerprint {
            return Some("is of another computation");
        }
        let agrees = self.content == Self::content_of(self.artifact, &self.files);
        (!agrees).then_some("has digests that do not agree")
    }

    /// What its files take, in bytes.
    pub fn files_bytes(&self) -> u64 {
        self.files.values().map(|file| file.size_bytes).sum()
    }

    /// Digest of an artifact's content: of its files' names and content digests, in order of name, without records, such as
    /// a checkpoint's history: they tell how it came about and hold times, and no stage reads them.
    pub fn content_of(artifact: ArtifactKind, files: &BTreeMap<String, FileEntry>) -> Digest {
        let record = match artifact {
            ArtifactKind::Checkpoint => Some(history::FILE),
            ArtifactKind::Scores => Some(scores::SPEEDS),
            _ => None,
        };
        let content = files.iter().filter(|(name, _)| Some(name.as_str()) != record);
        let lines: String = content.map(|(name, entry)| format!("{} {name}\n", entry.content)).collect();
        Digest::of(lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_names_at_every_depth() {
        let value: Value = serde_json::from_str(r#"{"b": [ {"z": 1, "a": 5e-5} ], "a": "\""}"#).unwrap();
        assert_eq!(
            canonical(&value),
            r#"{"a":"\"","b":[{"a":0.00005,"z":1}]}"#.replace("0.00005", &json!(5e-5).to_string())
        );
    }
}
