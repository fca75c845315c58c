//! Artifacts shared with others: a bucket or folder where they are looked for before they are made, and brought after.
//!
//! All that takes time happens on threads of its own, which start when the remote is first asked.

mod location;
mod place;
mod trouble;

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;
use futures_util::{StreamExt as _, stream};
use tokio::runtime::{Builder, Runtime};

use crate::store::{Lock, Pending, Stamps, Store};
pub(crate) use location::Location;
use place::Place;
pub(crate) use place::Pushed;
pub(crate) use trouble::Trouble;

/// Manifests asked for at a time.
const ASKED_AT_A_TIME: usize = 16;

/// The manifest of a computation's artifact, if the remote has it.
pub(crate) type Answer = Result<Option<Manifest>, Trouble>;

#[derive(Debug)]
pub(crate) struct Remote {
    location: Location,
    id: String,
    /// Whether it may be asked: not `--offline`, and no trouble so far.
    is_online: Cell<bool>,
    /// What an earlier run found out about its server.
    create_only: Option<bool>,
    link: OnceCell<Link>,
}

#[derive(Debug)]
struct Link {
    runtime: Runtime,
    place: Arc<Place>,
}

/// An artifact to be brought to the remote.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) manifest: Manifest,
    pub(crate) folder: PathBuf,
    /// It stays while it is read.
    pub(crate) lock: Lock,
    /// Whether it takes the place of one that is damaged.
    pub(crate) anew: bool,
}

impl Remote {
    /// A remote of which nothing is asked yet; with `is_offline`, never is.
    pub(crate) fn new(location: Location, is_offline: bool, store: &Store) -> Self {
        let id = location.id();
        let create_only = store.keeps_to_create_only(&id);
        Self { location, id, is_online: Cell::new(!is_offline), create_only, link: OnceCell::new() }
    }

    /// What is remembered of it is kept under this.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// As the user wrote it.
    pub(crate) fn shown(&self) -> &str {
        self.location.shown()
    }

    pub(crate) fn is_online(&self) -> bool {
        self.is_online.get()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.location.is_writable()
    }

    /// Asks it no more.
    pub(crate) fn give_up(&self) {
        self.is_online.set(false);
    }

    /// Asks for the manifests of computations, all at once.
    pub(crate) fn look_up(&self, keys: &[(String, Fingerprint)]) -> Result<Vec<(Fingerprint, Answer)>> {
        let Link { runtime, place } = self.link()?;
        let answers = stream::iter(keys)
            .map(|(kind, fingerprint)| async move { (*fingerprint, place.manifest(kind, *fingerprint).await) });
        Ok(runtime.block_on(answers.buffer_unordered(ASKED_AT_A_TIME).collect()))
    }

    /// Brings an artifact's files into a folder, telling of each piece that comes; calls `done` from another thread.
    pub(crate) fn fetch(
        &self,
        manifest: Manifest,
        folder: PathBuf,
        progress: impl Fn(u64) + Send + Sync + 'static,
        done: impl FnOnce(Result<(), Trouble>) + Send + 'static,
    ) -> Result<()> {
        let Link { runtime, place } = self.link()?;
        let place = place.clone();
        runtime.spawn(async move { done(place.download(&manifest, &folder, &progress).await) });
        Ok(())
    }

    /// Brings an artifact to the remote; calls `done` from another thread.
    pub(crate) fn push(
        &self,
        parcel: Parcel,
        done: impl FnOnce(Result<Pushed, Trouble>) + Send + 'static,
    ) -> Result<()> {
        let Link { runtime, place } = self.link()?;
        let place = place.clone();
        runtime.spawn(async move {
            let Parcel { manifest, folder, lock, anew } = parcel;
            let result = place.upload(&manifest, &folder, anew).await;
            drop(lock);
            done(result);
        });
        Ok(())
    }

    /// Takes in what was fetched, if it is what its manifest says.
    pub(crate) fn adopt(&self, manifest: &Manifest, pending: &Pending) -> Result<Stamps, Trouble> {
        let Manifest { stage, fingerprint, provenance, .. } = manifest;
        let log = format!("fetched from {}; made on {}\n", self.shown(), provenance.host);
        let damaged = || format!("`{stage}` ({}) in remote `{}` is damaged", fingerprint.short(), self.shown());
        let stamps = pending.hold_against(manifest).with_context(damaged).map_err(Trouble::Artifact)?;
        pending.adopt(manifest, stamps, &log).map_err(Trouble::Local)
    }

    /// Remembers what was found out by pushing; returns what the user should know of it.
    pub(crate) fn note(&self, pushed: &Pushed, store: &Store) -> Option<String> {
        store.note_known(&self.id, &pushed.manifest);
        let keeps = pushed.create_only?;
        if store.keeps_to_create_only(&self.id) == Some(keeps) {
            return None;
        }
        store.note_create_only(&self.id, keeps);
        (!keeps).then(|| {
            format!(
                "the server of remote `{}` ignores \"create only\": what is there is looked up before it is written, and of \
                 two writers in the same moment the later one wins",
                self.shown()
            )
        })
    }

    fn link(&self) -> Result<&Link> {
        if let Some(link) = self.link.get() {
            return Ok(link);
        }
        // TLS by `ring`. Another part of the program may have chosen already.
        _ = rustls::crypto::ring::default_provider().install_default();
        let place = Place::new(self.location.open()?, self.shown().to_owned(), self.create_only);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("bam-remote")
            .enable_all()
            .build()
            .context("starting threads for the remote")?;
        Ok(self.link.get_or_init(|| Link { runtime, place: Arc::new(place) }))
    }
}
