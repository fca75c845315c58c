//! Brings files of the hub into the cache.
//!
//! What takes time happens on a thread of its own, so that a hub that falls silent, or Ctrl-C, is noticed.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use bam_contract::fault::Fault;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::api::{Progress, RepoInfo};

use super::listing::{list, missing};
use super::{Hub, Reference, Repository, check, checksum_of};
use crate::run::{Observer, RunEvent};

/// Between two looks whether the user wants to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a request is made in all, where it may have failed by chance.
const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Between two words about a file on its way.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What the thread tells of.
#[derive(Debug)]
enum News {
    /// So many bytes of a file are here.
    File { repository: String, file: String, done: u64, bytes: u64 },
    /// Another process fetches the file.
    Waiting { repository: String, file: String },
    /// All that was wanted of a repository is here.
    Repository { repository: String, files: usize, bytes: u64, seconds: f64 },
}

impl News {
    fn event(&self) -> RunEvent<'_> {
        match self {
            Self::File { repository, file, done, bytes } => {
                RunEvent::Downloading { repository, file, done: *done, bytes: *bytes }
            }
            Self::Waiting { repository, file } => RunEvent::Awaiting { repository, file },
            Self::Repository { repository, files, bytes, seconds } => {
                RunEvent::Downloaded { repository, files: *files, bytes: *bytes, seconds: *seconds }
            }
        }
    }
}

/// Why something could not be had.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may go better the next time.
    Passing(anyhow::Error),
    Lasting(anyhow::Error),
}

/// Fetches what `repositories` lack, telling `observers` of it; says whether it came to its end, or was stopped.
///
/// # Errors
/// When something could not be had. What came whole stays in the cache, and the next call goes on within a file that
/// didn't.
pub(crate) fn fetch(
    hub: &Hub,
    repositories: Vec<Repository>,
    mut is_stopped: impl FnMut() -> bool,
    observers: &mut [&mut dyn Observer],
) -> Result<bool> {
    let (sender, told) = mpsc::channel();
    let errand = Errand { hub: hub.clone(), told: sender };
    let thread = thread::spawn(move || errand.run(&repositories));
    let mut heard = Instant::now();
    loop {
        match told.recv_timeout(LOOK_EVERY) {
            Ok(news) => {
                heard = Instant::now();
                for observer in &mut *observers {
                    observer.tell(&news.event());
                }
            }
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > hub.patience => {
                let message = format!("the hub at `{}` has been silent for {} s", hub.endpoint, hub.patience.as_secs());
                let hint = "what has come is kept, and the next run goes on from there; `HF_HUB_DOWNLOAD_TIMEOUT` gives it \
                            more seconds";
                return Err(Fault::new(message, hint).into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if is_stopped() {
            return Ok(false);
        }
    }
    thread.join().map_err(|_| anyhow!("fetching from the hub ended in a panic"))??;
    Ok(true)
}

struct Errand {
    hub: Hub,
    told: Sender<News>,
}

impl Errand {
    fn run(&self, repositories: &[Repository]) -> Result<()> {
        let cache = self.hub.cache.clone();
        let builder =
            ApiBuilder::from_cache(cache).with_endpoint(self.hub.endpoint.clone()).with_token(self.hub.token());
        let api =
            builder.with_user_agent("bam", env!("CARGO_PKG_VERSION")).build().context("starting to ask the hub")?;
        // All lists first: what a repository lacks is told before anything comes of another.
        let listed = repositories.iter().map(|repository| self.list(&api, repository)).collect::<Result<Vec<_>>>()?;
        repositories.iter().zip(listed).try_for_each(|(repository, listed)| self.fetch(&api, repository, &listed))
    }

    fn list(&self, api: &Api, repository: &Repository) -> Result<RepoInfo> {
        let Repository { reference, folder, .. } = repository;
        // A branch goes on; what belongs together comes from the commit that it stood for at first.
        let known = folder.as_ref().and_then(|folder| folder.file_name()?.to_str());
        let asked = known.map_or_else(|| reference.clone(), |commit| reference.at(commit));
        let listed = try_again(|| list(&api.repo(asked.repo()), &asked, &self.hub))?;
        missing(&listed, repository).map_or(Ok(listed), |fault| Err(fault.into()))
    }

    fn fetch(&self, api: &Api, repository: &Repository, listed: &RepoInfo) -> Result<()> {
        let Repository { reference, lacks, .. } = repository;
        let pinned = reference.at(&listed.sha);
        let folder = self.hub.repo(&pinned).pointer_path(&listed.sha);
        let started = Instant::now();
        let (mut files, mut bytes) = (0, 0);
        for name in lacks {
            if !listed.siblings.iter().any(|file| file.rfilename == *name) {
                self.hub
                    .note_absence(reference, &folder, name)
                    .with_context(|| format!("noting that `{name}` is none"))?;
                continue;
            }
            try_again(|| self.fetch_file(api, &pinned, name, &folder.join(name)))?;
            files += 1;
            bytes += fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.len());
        }
        if !reference.is_pinned() {
            self.hub.repo(reference).create_ref(&listed.sha).context("noting a branch's commit in the cache")?;
        }
        if files > 0 {
            let (repository, seconds) = (reference.to_string(), started.elapsed().as_secs_f64());
            self.tell(News::Repository { repository, files, bytes, seconds });
        }
        Ok(())
    }

    fn fetch_file(&self, api: &Api, pinned: &Reference, name: &str, path: &Path) -> Result<(), Failure> {
        let repo = api.repo(pinned.repo());
        let (repository, file) = (pinned.to_string(), name.to_owned());
        let trouble = |what: &dyn Display, hint: &str| {
            let message = format!("`{name}` of `{repository}` can't be fetched from `{}`: {what}", self.hub.endpoint);
            Failure::Passing(Fault::new(message, hint).into())
        };
        loop {
            // Another run may have fetched it since this one looked; its stages read it, and it must stay as it is.
            if path.is_file() {
                return Ok(());
            }
            let told =
                Told { errand: self, repository: repository.clone(), file: file.clone(), done: 0, bytes: 0, at: None };
            match repo.download_with_progress(name, told) {
                Ok(fetched) if fetched == path => break,
                Ok(fetched) => {
                    let message = format!("the hub put `{name}` of `{repository}` into `{}`", fetched.display());
                    return Err(Failure::Lasting(Fault::new(message, "is `HF_ENDPOINT` right?").into()));
                }
                Err(ApiError::LockAcquisition(_)) => {
                    self.tell(News::Waiting { repository: repository.clone(), file: file.clone() });
                }
                Err(error) => {
                    self.drop_overlong_part(api, pinned, &repo.url(name));
                    return Err(trouble(&error, "what has come is kept, and the next run goes on from there"));
                }
            }
        }
        let Some(checksum) = checksum_of(path) else { return Ok(()) };
        check(path, &checksum).map_err(|error| {
            // Not kept: the next one must not go on from it.
            let removed = fs::canonicalize(path).and_then(fs::remove_file).and_then(|()| fs::remove_file(path));
            match removed {
                Ok(()) => trouble(
                    &"its bytes are not those that the hub has a checksum of",
                    "they were not kept; is something broken between here and the hub?",
                ),
                Err(_) => Failure::Lasting(error),
            }
        })
    }

    /// Removes what has come of a file if there is nothing left to ask for, and it still isn't the file: hf-hub would never
    /// get beyond it.
    fn drop_overlong_part(&self, api: &Api, pinned: &Reference, url: &str) {
        if let Ok(metadata) = api.metadata(url) {
            let part = self.hub.repo(pinned).blob_path(metadata.etag()).with_extension("part");
            if fs::metadata(&part).is_ok_and(|part| part.len() >= metadata.size() as u64) {
                _ = fs::remove_file(part);
            }
        }
    }

    /// Nobody listens any more once the errand was given up.
    fn tell(&self, news: News) {
        _ = self.told.send(news);
    }
}

/// Makes an attempt that may fail by chance a few times.
fn try_again<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure::Lasting(error)) => return Err(error),
            Err(Failure::Passing(_)) => thread::sleep(wait),
        }
        wait *= 4;
    }
    attempt().map_err(|(Failure::Passing(error) | Failure::Lasting(error))| error)
}

/// A file's progress, as hf-hub tells it.
struct Told<'a> {
    errand: &'a Errand,
    repository: String,
    file: String,
    done: u64,
    bytes: u64,
    /// When it was last told.
    at: Option<Instant>,
}

impl Progress for Told<'_> {
    fn init(&mut self, bytes: usize, _: &str) {
        (self.done, self.bytes) = (0, bytes as u64);
        self.update(0);
    }

    fn update(&mut self, came: usize) {
        self.done += came as u64;
        if self.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        self.at = Some(Instant::now());
        let (repository, file) = (self.repository.clone(), self.file.clone());
        self.errand.tell(News::File { repository, file, done: self.done, bytes: self.bytes });
    }

    fn finish(&mut self) {}
}
