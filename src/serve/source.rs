//! Where the model comes from, now and later.

use std::path::PathBuf;

use crate::exported::Exported;
use crate::store::Store;

#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A folder, or a link that leads to one.
    Folder(PathBuf),
    /// Of the pipeline whose run exported this, what its last run did that ended well.
    LastRun(Exported),
}

impl Source {
    /// The model's folder now.
    pub(super) fn folder(&self, store: &Store) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.clone(),
            Self::LastRun(exported) => exported.renewed(store).as_ref().unwrap_or(exported).folder.clone(),
        }
    }
}
