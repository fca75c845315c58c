//! What is known of remotes, so that they needn't be asked again: `remotes/<id>/`.
//!
//! A manifest that was found in a remote says what a computation's content is, even when the remote can't be reached.

use std::fs;

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;

use super::Store;

impl Store {
    /// The manifest of an artifact that a remote is known to have.
    pub(crate) fn known(&self, remote: &str, fingerprint: Fingerprint) -> Option<Manifest> {
        let bytes = fs::read(self.root.join(known(remote, fingerprint))).ok()?;
        let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
        (manifest.key.fingerprint() == fingerprint).then_some(manifest)
    }

    pub(crate) fn is_known(&self, remote: &str, fingerprint: Fingerprint) -> bool {
        self.root.join(known(remote, fingerprint)).exists()
    }

    /// Remembers what a remote has, where that can be written: it only spares work.
    pub(crate) fn note_known(&self, remote: &str, manifest: &Manifest) {
        let note = || -> Result<()> {
            self.folder_in_root(&format!("remotes/{remote}"))?;
            self.write(&known(remote, manifest.fingerprint), &serde_json::to_vec(manifest)?)
        };
        _ = note();
    }

    pub(crate) fn forget_known(&self, remote: &str, fingerprint: Fingerprint) {
        _ = fs::remove_file(self.root.join(known(remote, fingerprint)));
    }

    /// Whether a remote's server keeps to "create only", if that was found out.
    pub(crate) fn keeps_to_create_only(&self, remote: &str) -> Option<bool> {
        serde_json::from_slice(&fs::read(self.root.join(create_only(remote))).ok()?).ok()
    }

    pub(crate) fn note_create_only(&self, remote: &str, keeps: bool) {
        let note = || -> Result<()> {
            self.folder_in_root(&format!("remotes/{remote}"))?;
            self.write(&create_only(remote), &serde_json::to_vec(&keeps)?)
        };
        _ = note();
    }
}

fn known(remote: &str, fingerprint: Fingerprint) -> String {
    format!("remotes/{remote}/{fingerprint}.json")
}

fn create_only(remote: &str) -> String {
    format!("remotes/{remote}/create-only.json")
}
