//! Files outside the store.

use std::path::{Path, PathBuf};

/// A file outside the store that a stage reads; its content is part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its name in the key, such as `encoder/config.json`.
    pub slot: String,
    pub path: PathBuf,
    /// What a hub says its bytes hash to, where it comes from one.
    pub checksum: Option<String>,
}

impl External {
    pub(crate) fn new(slot: impl Into<String>, path: &Path) -> Self {
        Self { slot: slot.into(), path: path.to_owned(), checksum: None }
    }
}
