//! What was made, under `artifacts/`. Only this file and those below it write there.
//!
//! An artifact appears whole or not at all: a stage writes into `tmp/`, and [`Pending::commit`] verifies, syncs and
//! renames it to `store/<kind>/<fingerprint>/`, where it never changes again.

mod attempts;
mod commit;
mod ended;
mod gc;
mod lease;
mod lock;
mod owner;
mod records;
mod remotes;
mod resume;
mod verified;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::fault::Fault;
use bam_contract::manifest::Manifest;

use crate::fingerprint::Digests;
pub(crate) use commit::{Finished, Pending};
pub(crate) use ended::Failure;
pub(crate) use gc::{Other, Stored};
pub(crate) use lock::{Asked, Lock};
pub(crate) use owner::{Owner, file_of};
pub(crate) use records::{KILLED, RUNNING};
pub(crate) use verified::Stamps;
use verified::Verified;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const LOG: &str = "log.txt";
const DIGESTS: &str = "digests.json";
/// Links that a person opens, by stage.
const LATEST: &str = "latest";
/// Links to what each pipeline's stages had last.
const LAST: &str = "last";

/// The file in an attempt's folder that says of what outlives the engine: a job that was submitted to a cluster.
pub(crate) const SUBMITTED: &str = "submitted.json";

/// The file in an attempt's folder that holds the stamps of what its stage reads, from before it started.
pub(crate) const READ: &str = "read.json";

/// How the names of files beside attempts begin that hold what members of an array printed.
pub(crate) const SAID: &str = "said.";

/// The folder of artifacts.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// The root as the user named it, for messages.
    shown: PathBuf,
    verified: Verified,
}

/// What the store has of a computation.
#[derive(Debug)]
pub(crate) enum Found {
    Absent,
    Sound(Box<Manifest>),
    /// In what way it is not what was committed.
    Damaged(String),
}

impl Store {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let absolute = std::path::absolute(root).with_context(|| format!("finding `{}`", root.display()))?;
        if absolute.exists() && !absolute.is_dir() {
            let hint = "`--artifacts DIR` names the folder of what was made";
            return Err(Fault::new(format!("`{}` is not a folder", root.display()), hint).into());
        }
        // Else all that is in it would be taken to be gone.
        if let Err(error) = fs::read_dir(absolute.join("store"))
            && error.kind() != io::ErrorKind::NotFound
        {
            let message = format!("`{}` cannot be read: {error}", root.join("store").display());
            let hint = "give the user that runs `bam` the right to read it, or name another with `--artifacts DIR`";
            return Err(Fault::new(message, hint).into());
        }
        Ok(Self { root: absolute, shown: root.to_owned(), verified: Verified::default() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of an artifact, whether there or not.
    pub(crate) fn folder(&self, kind: &str, fingerprint: Fingerprint) -> PathBuf {
        self.root.join("store").join(kind).join(fingerprint.to_string())
    }

    /// The store that an artifact's folder lies in, with the artifact's kind and fingerprint.
    pub(crate) fn of_artifact(folder: &Path) -> Result<(Self, String, Fingerprint)> {
        let name = |at: &Path| at.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
        let parts = || {
            let (kind, root) = (folder.parent()?, folder.ancestors().nth(3)?);
            Some((root, name(kind)?, name(folder)?.parse().ok()?))
        };
        let (root, kind, fingerprint) = parts().with_context(|| format!("`{}` is no artifact", folder.display()))?;
        Ok((Self::open(root)?, kind, fingerprint))
    }

    /// Has a network file system show what other hosts have made of a kind, which may show what it knew a minute ago.
    pub(crate) fn look_anew(&self, kind: &str) {
        let all = self.root.join("store");
        let folder = all.join(kind);
        // Of a folder that is taken not to be there the one above knows more.
        if !folder.exists() {
            refresh(&all);
        }
        refresh(&folder);
    }

    /// A path of the store as the user would write it.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), |inside| self.shown.join(inside))
    }

    /// Where `latest/<stage>` leads, whichever pipeline's it is: the fingerprint, and the manifest if the artifact is still there.
    pub(crate) fn latest(&self, stage: &str) -> Option<(Fingerprint, Option<Manifest>)> {
        led_to(&self.latest_link(stage))
    }

    /// What a stage of this pipeline had last.
    pub(crate) fn last(&self, owner: &Owner, stage: &str) -> Option<(Fingerprint, Option<Manifest>)> {
        led_to(&self.kept_of(LAST, owner, stage))
    }

    pub(crate) fn latest_link(&self, stage: &str) -> PathBuf {
        self.root.join(LATEST).join(stage)
    }

    /// Points `latest/<stage>`, and what the pipeline had last, at an artifact.
    pub(crate) fn set_latest(&self, owner: &Owner, stage: &str, kind: &str, fingerprint: Fingerprint) -> Result<()> {
        self.set_link(LATEST, "..", stage, kind, fingerprint)?;
        self.set_link(&format!("{LAST}/{}", owner.name()), "../..", stage, kind, fingerprint)
    }

    /// Sets a link in a folder of the store, from which `up` leads to its root.
    fn set_link(&self, folder: &str, up: &str, stage: &str, kind: &str, fingerprint: Fingerprint) -> Result<()> {
        let link = self.root.join(folder).join(stage);
        let target = Path::new(up).join("store").join(kind).join(fingerprint.to_string());
        if fs::read_link(&link).is_ok_and(|now| now == target) {
            return Ok(());
        }
        let setting = || format!("linking `{}`", self.shown(&link).display());
        let folder = self.folder_in_root(folder)?;
        // In a copy of a store that followed links: an artifact, which lies in `store/` as well.
        let is_folder = fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_dir());
        if is_folder && read_manifest(&link).is_ok() {
            fs::remove_dir_all(&link).with_context(setting)?;
        }
        let fresh = folder.join(format!(".{stage}-{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(target, &fresh).with_context(setting)?;
        fs::rename(&fresh, &link).with_context(setting)
    }

    /// Every artifact in the store.
    pub(crate) fn all(&self) -> Vec<(PathBuf, Manifest)> {
        let kinds = fs::read_dir(self.root.join("store")).into_iter().flatten().flatten();
        let mut kinds: Vec<String> = kinds.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        kinds.sort();
        kinds.iter().flat_map(|kind| self.all_of(kind)).collect()
    }

    /// Every artifact of a kind, by fingerprint.
    pub(crate) fn all_of(&self, kind: &str) -> Vec<(PathBuf, Manifest)> {
        let entries = fs::read_dir(self.root.join("store").join(kind)).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        folders.sort();
        folders.into_iter().filter_map(|folder| Some((folder.clone(), read_manifest(&folder).ok()?))).collect()
    }

    /// What an artifact takes on the disk, its manifest and log included.
    pub(crate) fn size_bytes(folder: &Path, manifest: &Manifest) -> u64 {
        let beside = |name: &str| fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.len());
        manifest.files_bytes() + beside(MANIFEST) + beside(LOG)
    }

    /// When an artifact of a kind last came or went.
    pub(crate) fn changed(&self, kind: &str) -> Option<SystemTime> {
        fs::metadata(self.root.join("store").join(kind)).ok()?.modified().ok()
    }

    /// Kinds and fingerprints of all that lies in the store, whole or not.
    pub(crate) fn names(&self) -> Vec<(String, Fingerprint)> {
        let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = Vec::new();
        for kind in entries(self.root.join("store")) {
            let Ok(kind_name) = kind.file_name().into_string() else { continue };
            for entry in entries(kind.path()) {
                let fingerprint = entry.file_name().to_str().and_then(|name| name.parse().ok());
                names.extend(fingerprint.map(|fingerprint| (kind_name.clone(), fingerprint)));
            }
        }
        names.sort();
        names
    }

    /// Takes a damaged artifact out of the store; returns where it lies now.
    pub(crate) fn set_aside(&self, kind: &str, fingerprint: Fingerprint) -> Result<PathBuf> {
        let damaged = self.folder_in_root("damaged")?;
        let mut number = 1;
        let mut aside = damaged.join(fingerprint.to_string());
        while aside.exists() {
            number += 1;
            aside = damaged.join(format!("{fingerprint}.{number}"));
        }
        fs::rename(self.folder(kind, fingerprint), &aside)
            .with_context(|| format!("moving a damaged artifact to `{}`", self.shown(&aside).display()))?;
        // It goes by age from now on.
        _ = File::open(&aside).and_then(|folder| folder.set_modified(SystemTime::now()));
        self.forget_verified(fingerprint);
        Ok(aside)
    }

    pub(crate) fn load_digests(&self) -> Digests {
        Digests::load(&self.root.join(DIGESTS))
    }

    /// Saves what only spares work: where it can't be written, the files are read again.
    pub(crate) fn save_digests(&self, digests: &mut Digests) {
        if let Some(bytes) = digests.take_fresh(&self.root.join(DIGESTS)) {
            _ = self.write(DIGESTS, &bytes);
        }
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put(name, bytes, |_| Ok(())).map(drop)
    }

    /// The same, with something done to the file before others see it.
    fn put(&self, name: &str, bytes: &[u8], prepare: impl Fn(&File) -> io::Result<()>) -> Result<File> {
        let path = self.root.join(name);
        let put = || -> io::Result<File> {
            fs::create_dir_all(&self.root)?;
            // For all who may read the store; the user's umask applies.
            let permissions = fs::Permissions::from_mode(0o666);
            let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(&self.root)?;
            file.write_all(bytes)?;
            prepare(file.as_file())?;
            Ok(file.persist(&path)?)
        };
        put().with_context(|| format!("writing `{}`", self.shown(&path).display()))
    }

    fn folder_in_root(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating `{}`", self.shown(&folder).display()))?;
        Ok(folder)
    }
}

/// The artifact that a link leads to.
fn led_to(link: &Path) -> Option<(Fingerprint, Option<Manifest>)> {
    let manifest = read_manifest(link).ok();
    let named = fs::read_link(link).ok().and_then(|target| target.file_name()?.to_str()?.parse().ok());
    // In a copy of a store that followed links it is the artifact itself.
    let fingerprint = named.or(manifest.as_ref().map(|manifest| manifest.fingerprint))?;
    Some((fingerprint, manifest))
}

/// Has a network file system look at a folder anew, which may show it as it was a minute ago: that it changes from here too lets it
/// know.
pub(crate) fn refresh(folder: &Path) {
    _ = tempfile::NamedTempFile::new_in(folder);
}

pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest> {
    let text = fs::read_to_string(folder.join(MANIFEST)).with_context(|| format!("`{MANIFEST}` cannot be read"))?;
    serde_json::from_str(&text).with_context(|| format!("`{MANIFEST}` is no manifest"))
}
