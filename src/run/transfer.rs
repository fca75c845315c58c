//! Artifacts that come from the remote, and those that go there while the run goes on.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::event::Event;
use bam_contract::manifest::Manifest;

use super::{Outcome, Run, RunEvent, State};
use crate::executor::Message;
use crate::remote::{Parcel, Pushed, Remote, Trouble};
use crate::store::{Asked, Found, Pending};

/// How often a transfer tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// An artifact on its way here.
pub(super) struct Fetching {
    manifest: Manifest,
    pending: Pending,
    started: Instant,
}

impl Run<'_, '_> {
    /// Notes that a stage's artifact is in the remote. It comes here when it is needed.
    pub(super) fn found_elsewhere(&mut self, at: usize, manifest: Manifest) {
        self.contents[at] = Some(manifest.content);
        self.fingerprints[at] = Some(manifest.fingerprint);
        self.turn(at, State::Remote);
        self.store.forget_end(&self.owner, &self.pipeline.stages[at].name);
        self.tally.remote += 1;
        self.tally.saved_secs += manifest.provenance.wall_secs;
        if self.pipeline.is_goal(at) {
            self.to_fetch.insert(at);
        } else {
            let stage = &self.pipeline.stages[at].name;
            self.tell(&RunEvent::Remote { stage, index: at, manifest: &manifest });
        }
        self.elsewhere.insert(at, manifest);
    }

    /// Has those inputs of a stage fetched that are in the remote; says whether it has to wait for any.
    pub(super) fn awaits_inputs(&mut self, at: usize) -> bool {
        let inputs: Vec<usize> = self.pipeline.stages[at].inputs.iter().map(|edge| edge.stage).collect();
        let awaited: Vec<usize> = inputs.into_iter().filter(|input| self.states[*input] == State::Remote).collect();
        self.to_fetch.extend(awaited.iter().filter(|input| !self.fetching.contains_key(input)));
        !awaited.is_empty()
    }

    /// Starts to fetch what is needed here. Says whether another run is at it.
    pub(super) fn start_fetches(&mut self) -> bool {
        let mut waits_for_others = false;
        for at in std::mem::take(&mut self.to_fetch) {
            match self.start_fetch(at) {
                Ok(waits) => waits_for_others |= waits,
                Err(error) => self.failed(at, &error.into(), None, 0.0),
            }
        }
        waits_for_others
    }

    fn start_fetch(&mut self, at: usize) -> Result<bool> {
        let Some(manifest) = self.elsewhere.get(&at).cloned() else { return Ok(false) };
        let Some(remote) = self.planner.elsewhere().open() else {
            self.planner.elsewhere().refuse(manifest.fingerprint);
            self.make_here(at);
            return Ok(false);
        };
        let Asked::Held(lock) = self.store.lock(manifest.fingerprint)? else {
            self.to_fetch.insert(at);
            return Ok(!self.fetching.values().any(|own| own.manifest.fingerprint == manifest.fingerprint));
        };
        let kind = &manifest.key.kind;
        match self.store.find(kind, manifest.fingerprint)? {
            Found::Absent => {}
            // Another run has brought it meanwhile, or another stage of the same key.
            Found::Sound(manifest) => {
                drop(lock);
                self.no_longer_elsewhere(at);
                self.cached(at, &manifest);
                return Ok(false);
            }
            Found::Damaged(_) => self.set_aside(at, kind, manifest.fingerprint)?,
        }
        let pending = self.store.begin(kind, manifest.fingerprint, lock)?;
        self.fetch(at, remote, manifest, pending);
        Ok(false)
    }

    fn fetch(&mut self, at: usize, remote: &Remote, manifest: Manifest, pending: Pending) {
        let total = manifest.files_bytes();
        let (progress, done) = (self.sender.clone(), self.sender.clone());
        let (came, told) = (AtomicU64::new(0), Mutex::new(Instant::now()));
        let tell = move |bytes: u64| {
            let so_far = came.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let Ok(mut told) = told.try_lock() else { return };
            if told.elapsed() >= TELL_EVERY {
                *told = Instant::now();
                let (done, total) = (so_far >> 10, total >> 10);
                let event = Event::Progress { done, total, unit: "KiB".to_owned(), detail: String::new() };
                _ = progress.send(Message::Event { stage: at, event });
            }
        };
        let finish = move |result| drop(done.send(Message::Fetched { stage: at, result }));
        if let Err(error) = remote.fetch(manifest.clone(), pending.output(), tell, finish) {
            drop(pending);
            self.do_without(at, manifest.fingerprint, Trouble::Remote(error));
            return;
        }
        let stage = &self.pipeline.stages[at].name;
        self.tell(&RunEvent::Fetching { stage, index: at, bytes: total });
        self.fetching.insert(at, Fetching { manifest, pending, started: Instant::now() });
    }

    /// Commits what came; what did not, or came wrong, is made here.
    pub(super) fn fetched(&mut self, at: usize, result: Result<(), Trouble>) {
        let Some(Fetching { manifest, pending, started }) = self.fetching.remove(&at) else { return };
        let Some(remote) = self.planner.elsewhere().remote() else { return };
        let adopted = result.and_then(|()| remote.adopt(&manifest, &pending));
        drop(pending);
        let stamps = match adopted {
            Ok(stamps) => stamps,
            Err(Trouble::Local(error)) => {
                self.no_longer_elsewhere(at);
                return self.failed(at, &error.into(), None, started.elapsed().as_secs_f64());
            }
            Err(trouble) => return self.do_without(at, manifest.fingerprint, trouble),
        };
        self.store.committed(manifest.fingerprint, stamps);
        self.read.insert(manifest.fingerprint);
        self.no_longer_elsewhere(at);
        if let Err(error) = self.settle(at, State::Fetched, &manifest) {
            return self.failed(at, &error.into(), None, started.elapsed().as_secs_f64());
        }
        self.tally.fetched += 1;
        self.tally.saved_secs += manifest.provenance.wall_secs;
        let (stage, seconds) = (&self.pipeline.stages[at].name, started.elapsed().as_secs_f64());
        let bytes = manifest.files_bytes();
        self.tell(&RunEvent::Fetched { stage, index: at, manifest: &manifest, bytes, fetch_seconds: seconds });
    }

    /// Tells why an artifact did not come, and has it made here.
    fn do_without(&mut self, at: usize, fingerprint: Fingerprint, trouble: Trouble) {
        self.planner.elsewhere().note(fingerprint, trouble);
        self.planner.elsewhere().refuse(fingerprint);
        self.tell_troubles();
        self.make_here(at);
    }

    /// Gives up on the remote for a stage, which is decided about again.
    fn make_here(&mut self, at: usize) {
        self.no_longer_elsewhere(at);
        self.contents[at] = None;
        self.turn(at, State::Waiting);
    }

    fn no_longer_elsewhere(&mut self, at: usize) {
        if let Some(manifest) = self.elsewhere.remove(&at) {
            self.tally.remote -= 1;
            self.tally.saved_secs -= manifest.provenance.wall_secs;
        }
    }

    /// Tells what went wrong with the remote since the last time.
    pub(super) fn tell_troubles(&mut self) {
        for error in self.planner.elsewhere().take_troubles() {
            self.tell(&RunEvent::trouble(&error));
        }
    }

    /// Has an artifact brought to the remote, unless that is known to have it.
    pub(super) fn push(&mut self, at: usize, manifest: &Manifest) {
        let fingerprint = manifest.fingerprint;
        let Some(remote) = self.planner.elsewhere().open() else { return };
        let anew = self.planner.elsewhere().is_refused(fingerprint);
        let is_there = self.store.is_known(remote.id(), fingerprint) && !anew;
        if is_there || !remote.is_writable() || self.pushes_failed || !self.pushing.insert(fingerprint) {
            return;
        }
        let Ok(Asked::Held(lock)) = self.store.share(fingerprint) else {
            // It is being made again, or can't be locked; the next run brings it there.
            self.pushing.remove(&fingerprint);
            return;
        };
        let folder: PathBuf = self.store.folder(&manifest.key.kind, fingerprint);
        let parcel = Parcel { manifest: manifest.clone(), folder, lock, anew };
        let done = self.sender.clone();
        let finish = move |result| drop(done.send(Message::Pushed { stage: at, fingerprint, result }));
        if let Err(error) = remote.push(parcel, finish) {
            self.pushing.remove(&fingerprint);
            self.planner.elsewhere().note(fingerprint, Trouble::Remote(error));
            self.tell_troubles();
        }
    }

    /// Takes in how bringing an artifact to the remote ended. It never fails the run.
    pub(super) fn pushed(&mut self, at: usize, fingerprint: Fingerprint, result: Result<Pushed, Trouble>) {
        self.pushing.remove(&fingerprint);
        let Some(remote) = self.planner.elsewhere().remote() else { return };
        match result {
            Ok(pushed) => {
                if let Some(text) = remote.note(&pushed, self.store) {
                    self.tell(&RunEvent::Trouble { text, hint: None });
                }
                if let Some(bytes) = pushed.bytes {
                    self.tally.pushed += 1;
                    self.tally.pushed_bytes += bytes;
                    let stage = &self.pipeline.stages[at].name;
                    self.tell(&RunEvent::Pushed { stage, index: at, manifest: &pushed.manifest, bytes });
                }
            }
            Err(trouble) => {
                let is_told = self.pushes_failed || (matches!(trouble, Trouble::Remote(_)) && !remote.is_online());
                self.pushes_failed |= matches!(trouble, Trouble::Remote(_));
                if !is_told {
                    let stage = &self.pipeline.stages[at].name;
                    let what = format!("`{stage}` was not pushed; the next run tries again");
                    self.tell(&RunEvent::trouble(&trouble.into_error().context(what)));
                }
            }
        }
    }

    /// Whether transfers are under way that the run waits for.
    pub(super) fn transfers(&self) -> bool {
        let pushing = !self.pushing.is_empty() && self.stopping != Some(Outcome::Interrupted);
        pushing || (!self.fetching.is_empty() && self.may_start())
    }
}
