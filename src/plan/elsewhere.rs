//! What the remote has, as far as a plan or a run has asked.

use std::collections::{BTreeSet, HashMap};

use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;

use crate::remote::{Remote, Trouble};
use crate::store::Store;

#[derive(Debug)]
pub(crate) struct Elsewhere<'a> {
    store: &'a Store,
    remote: Option<&'a Remote>,
    /// Whether it is asked, or only what is known of it counts.
    asks: bool,
    /// Answers of this plan or run.
    asked: HashMap<Fingerprint, Option<Box<Manifest>>>,
    /// Artifacts that are not to be had from there, though it said so.
    refused: BTreeSet<Fingerprint>,
    troubles: Vec<anyhow::Error>,
}

impl<'a> Elsewhere<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, remote: None, asks: true, asked: HashMap::new(), refused: BTreeSet::new(), troubles: Vec::new() }
    }

    pub(super) fn set_remote(&mut self, remote: Option<&'a Remote>, asks: bool) {
        self.remote = remote;
        self.asks = asks;
    }

    pub(crate) fn remote(&self) -> Option<&'a Remote> {
        self.remote
    }

    /// The remote, while it may be asked.
    pub(crate) fn open(&self) -> Option<&'a Remote> {
        self.remote.filter(|remote| remote.is_online())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open().is_some()
    }

    pub(crate) fn is_refused(&self, fingerprint: Fingerprint) -> bool {
        self.refused.contains(&fingerprint)
    }

    /// What went wrong since the last time this was called.
    pub(crate) fn take_troubles(&mut self) -> Vec<anyhow::Error> {
        std::mem::take(&mut self.troubles)
    }

    /// Notes that something could not be had.
    pub(crate) fn note(&mut self, fingerprint: Fingerprint, trouble: Trouble) {
        let Some(remote) = self.remote else { return };
        match trouble {
            Trouble::Artifact(error) | Trouble::Local(error) => {
                self.refused.insert(fingerprint);
                self.store.forget_known(remote.id(), fingerprint);
                self.troubles.push(error);
            }
            Trouble::Remote(error) => {
                // One word for all that fails at the same time.
                if remote.is_online() {
                    remote.give_up();
                    self.troubles.push(error);
                }
            }
        }
    }

    /// Takes no more of this artifact from there.
    pub(crate) fn refuse(&mut self, fingerprint: Fingerprint) {
        self.refused.insert(fingerprint);
    }

    /// Whether the remote has to be asked to know of a computation.
    pub(super) fn must_ask(&self, fingerprint: Fingerprint) -> bool {
        self.open().filter(|_| self.asks).is_some_and(|remote| {
            !self.asked.contains_key(&fingerprint)
                && !self.refused.contains(&fingerprint)
                && !self.store.is_known(remote.id(), fingerprint)
        })
    }

    /// Asks for those computations of which nothing is known.
    pub(super) fn ask(&mut self, mut keys: Vec<(String, Fingerprint)>) {
        let Some(remote) = self.open() else { return };
        keys.sort();
        keys.dedup();
        keys.retain(|(_, fingerprint)| self.must_ask(*fingerprint));
        let answers = match remote.look_up(&keys) {
            Ok(answers) => answers,
            Err(error) => return self.note(keys[0].1, Trouble::Remote(error)),
        };
        for (fingerprint, answer) in answers {
            match answer {
                Ok(found) => {
                    if let Some(manifest) = &found {
                        self.store.note_known(remote.id(), manifest);
                    }
                    self.asked.insert(fingerprint, found.map(Box::new));
                }
                Err(trouble) => self.note(fingerprint, trouble),
            }
        }
    }

    /// The manifest of an artifact that the remote has.
    pub(super) fn find(&self, fingerprint: Fingerprint) -> Option<Box<Manifest>> {
        let remote = self.remote.filter(|_| !self.refused.contains(&fingerprint))?;
        let asked = self.asked.get(&fingerprint).cloned().flatten();
        asked.or_else(|| self.store.known(remote.id(), fingerprint).map(Box::new))
    }
}
