//! Whose a stage is: pipelines of one folder may have stages of one name.

use std::fs;
use std::path::{Path, PathBuf};

use bam_contract::digest::Digest;

use super::Store;

/// A pipeline file, as folders of the store are named by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(String);

/// Those of files have 255 at most.
const MOST_BYTES: usize = 200;

impl Store {
    /// By the file's path from the folder that the store lies in, so that both can be moved together; by its absolute path where
    /// it isn't below that.
    pub(crate) fn owner(&self, pipeline: &Path) -> Owner {
        let home = self.root.parent().unwrap_or(&self.root);
        let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
        let path = pipeline.strip_prefix(home).unwrap_or(pipeline).to_string_lossy();
        let name = path.replace('+', "+-").replace('/', "++");
        Owner(if name.len() > MOST_BYTES { Digest::of(name.as_bytes()).to_string() } else { name })
    }

    /// Folder of what is kept of a stage, within one of the store's own.
    pub(super) fn kept_of(&self, folder: &str, owner: &Owner, stage: &str) -> PathBuf {
        self.root.join(folder).join(&owner.0).join(stage)
    }

    /// The same of all pipelines that have something there.
    pub(super) fn kept_of_any<'a>(&self, folder: &str, stage: &'a str) -> impl Iterator<Item = PathBuf> + use<'a> {
        self.owners_in(folder).map(move |owner| owner.join(stage)).filter(|path| path.symlink_metadata().is_ok())
    }

    /// Folders of all pipelines that have something there.
    pub(super) fn owners_in(&self, folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
        fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path())
    }
}

/// The file that a pipeline's folder is named by, relative to that of the store; none where it is named by a digest.
pub(crate) fn file_of(name: &str) -> Option<PathBuf> {
    if name.parse::<Digest>().is_ok() {
        return None;
    }
    let (mut path, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once('+') {
        path += before;
        path.push(if after.starts_with('+') { '/' } else { '+' });
        rest = after.get(1..)?;
    }
    Some(PathBuf::from(path + rest))
}

impl Owner {
    /// The folder's name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_tells_the_file() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("artifacts")).unwrap();
        let home = home.path().canonicalize().unwrap();
        for path in ["pipeline.yaml", "x2/pipeline.yaml", "a+b/+c/d+.yaml", "+"] {
            assert_eq!(file_of(store.owner(&home.join(path)).name()), Some(PathBuf::from(path)));
        }
        assert_eq!(file_of(store.owner(Path::new("/far/x.yaml")).name()), Some(PathBuf::from("/far/x.yaml")));
        assert_eq!(file_of(store.owner(&home.join("x".repeat(300))).name()), None);
    }
}
