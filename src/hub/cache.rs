//! The hub as the environment names it, and what of it lies on this machine.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, CacheRepo};

use super::reference::is_commit;
use super::{File, Reference};

/// Where the hub is, and the folder that Hugging Face's libraries keep its files in.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    pub(super) cache: Cache,
    pub(super) endpoint: String,
    is_offline: bool,
    /// How long it may be silent.
    pub(super) patience: Duration,
    home: PathBuf,
}

impl Hub {
    /// By the variables that Hugging Face's own libraries read; `is_offline` says that it may not be asked in any case.
    pub(crate) fn from_env(is_offline: bool) -> Self {
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let caches = || folder("XDG_CACHE_HOME").unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".cache"));
        let home = folder("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let cache = folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub"));
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let says_yes = |text: String| ["1", "on", "yes", "true"].contains(&text.to_ascii_lowercase().as_str());
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok());
        Self {
            cache: Cache::new(std::path::absolute(&cache).unwrap_or(cache)),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            is_offline: is_offline || variable("HF_HUB_OFFLINE").is_some_and(says_yes),
            patience: Duration::from_secs(seconds.unwrap_or(30)),
            home,
        }
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// Where the cache is, for messages.
    pub(crate) fn folder_of_cache(&self) -> &Path {
        self.cache.path()
    }

    /// From the environment, else from where `huggingface-cli login` has put it.
    pub(super) fn token(&self) -> Option<String> {
        let file = variable("HF_TOKEN_PATH").map_or_else(|| self.home.join("token"), PathBuf::from);
        let token = variable("HF_TOKEN").or_else(|| fs::read_to_string(file).ok())?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// Where the files of a repository's state lie, or will; `None` while it isn't known which commit that is.
    pub(crate) fn folder(&self, reference: &Reference) -> Option<PathBuf> {
        let repo = self.repo(reference);
        if reference.is_pinned() {
            return Some(repo.pointer_path(reference.revision()));
        }
        let known = self.root(reference).join("refs").join(reference.revision());
        let commit = fs::read_to_string(known).ok()?;
        is_commit(commit.trim()).then(|| repo.pointer_path(commit.trim()))
    }

    /// Those of the files that the cache lacks. One that can be done without isn't lacking where it is known that the
    /// repository doesn't have it, or where what is there is all that can be had.
    pub(crate) fn lacks(&self, reference: &Reference, files: &[File]) -> Vec<String> {
        let folder = self.folder(reference);
        let is_there = |file: &File| folder.as_deref().is_some_and(|folder| folder.join(&file.name).is_file());
        let is_none =
            |file: &File| folder.as_deref().is_some_and(|folder| self.absence(reference, folder, &file.name).exists());
        let is_all_there_is = self.is_offline && folder.as_deref().is_some_and(Path::is_dir);
        let is_settled = |file: &File| is_there(file) || !file.is_needed && (is_all_there_is || is_none(file));
        files.iter().filter(|file| !is_settled(file)).map(|file| file.name.clone()).collect()
    }

    /// Notes, as Hugging Face's libraries do, that a commit has no such file.
    pub(super) fn note_absence(&self, reference: &Reference, folder: &Path, name: &str) -> io::Result<()> {
        let mark = self.absence(reference, folder, name);
        fs::create_dir_all(mark.parent().unwrap_or(&mark))?;
        fs::write(mark, "")
    }

    fn absence(&self, reference: &Reference, folder: &Path, name: &str) -> PathBuf {
        self.root(reference).join(".no_exist").join(folder.file_name().unwrap_or_default()).join(name)
    }

    pub(super) fn repo(&self, reference: &Reference) -> CacheRepo {
        self.cache.repo(reference.repo())
    }

    fn root(&self, reference: &Reference) -> PathBuf {
        self.cache.path().join(reference.repo().folder_name())
    }
}

/// A variable of the environment, unless it is unset or empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
