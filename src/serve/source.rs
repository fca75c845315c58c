//! Where the model comes from, now and later.

use std::path::{Path, PathBuf};

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
    /// The model's folder at the start.
    pub(super) fn first(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::LastRun(exported) => &exported.folder,
        }
    }

    /// The model's folder now. Where a stage has refused all that there are, the `present` one is served on.
    pub(super) fn now(&self, store: &Store, present: &Path) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.clone(),
            Self::LastRun(exported) => exported.renewed(store).map_or_else(|| present.to_owned(), |now| now.folder),
        }
    }
}
