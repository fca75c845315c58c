//! The remote as it is asked: `blobs/<digest>` and, once all its blobs are there, `manifests/<kind>/<fingerprint>.json`.

use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::manifest::{FileEntry, Manifest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, WriteMultipart};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::spawn_blocking;

use super::trouble::{Trouble, explain};

/// Files larger than this go up in parts of at least this size.
const PART_BYTES: u64 = 8 << 20;
/// S3 takes 10,000 parts of a file at most.
const MOST_PARTS: u64 = 5_000;
/// Parts and files on their way at a time, of one artifact.
const AT_A_TIME: usize = 4;
/// Artifacts on their way at a time.
const ARTIFACTS_AT_A_TIME: usize = 4;

#[derive(Debug)]
pub(super) struct Place {
    store: Arc<dyn ObjectStore>,
    shown: String,
    /// Whether it keeps to "create only", and so lets one of several writers win.
    create_only: OnceCell<bool>,
    slots: Semaphore,
}

/// What became of an artifact that was to be brought there.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// The manifest that is there now: the first one that came.
    pub(crate) manifest: Box<Manifest>,
    /// What was uploaded, unless the artifact was there already.
    pub(crate) bytes: Option<u64>,
    /// What is known of the server, if it had to be tried.
    pub(crate) create_only: Option<bool>,
}

/// Whether all that a manifest in the remote names is there now.
enum Mended {
    /// By so many bytes that were brought.
    With(u64),
    /// Some of it is lost, and this artifact has other bytes.
    Not,
}

impl Place {
    pub(super) fn new(store: Arc<dyn ObjectStore>, shown: String, create_only: Option<bool>) -> Self {
        let slots = Semaphore::new(ARTIFACTS_AT_A_TIME);
        Self { store, shown, create_only: OnceCell::new_with(create_only), slots }
    }

    /// The manifest of a computation's artifact, if that is there.
    pub(super) async fn manifest(&self, kind: &str, fingerprint: Fingerprint) -> Result<Option<Manifest>, Trouble> {
        let got = match self.store.get(&manifest_path(kind, fingerprint)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = match got {
            Ok(bytes) => bytes,
            Err(error @ Error::NotFound { .. }) if !error.to_string().contains("NoSuchBucket") => return Ok(None),
            Err(error) => return Err(self.explain(&error)),
        };
        let manifest = serde_json::from_slice(&bytes).map_err(anyhow::Error::from);
        let sound = manifest.and_then(|manifest| sound(manifest, fingerprint));
        let wrong = || format!("`{}` in remote `{}` is wrong", manifest_path(kind, fingerprint), self.shown);
        sound.map(Some).with_context(wrong).map_err(Trouble::Artifact)
    }

    /// Brings an artifact's files into a folder. They are not compared with the manifest here.
    pub(super) async fn download(
        &self,
        manifest: &Manifest,
        folder: &FilePath,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Trouble> {
        let _slot = self.slots.acquire().await;
        let files: Vec<_> =
            manifest.files.iter().map(|(name, entry)| self.get(name, entry, folder, progress)).collect();
        stream::iter(files).buffer_unordered(AT_A_TIME).try_collect().await
    }

    async fn get(
        &self,
        name: &str,
        entry: &FileEntry,
        folder: &FilePath,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Trouble> {
        let path = folder.join(name);
        let got = self.store.get(&blob_path(entry.digest)).await.map_err(|error| match error {
            Error::NotFound { .. } => Trouble::Artifact(anyhow::anyhow!(
                "remote `{}` has lost `{}` (`{name}`)",
                self.shown,
                blob_path(entry.digest)
            )),
            error => self.explain(&error),
        })?;
        let writing = |error: std::io::Error| {
            Trouble::Local(anyhow::Error::from(error).context(format!("writing `{}`", path.display())))
        };
        fs::create_dir_all(path.parent().unwrap_or(folder)).await.map_err(writing)?;
        let mut file = File::create(&path).await.map_err(writing)?;
        let mut bytes = got.into_stream();
        while let Some(chunk) = bytes.try_next().await.map_err(|error| self.explain(&error))? {
            file.write_all(&chunk).await.map_err(writing)?;
            progress(chunk.len() as u64);
        }
        file.flush().await.map_err(writing)
    }

    /// Brings an artifact there, its manifest last. With `anew`, in the place of one that turned out to be damaged.
    pub(super) async fn upload(&self, manifest: &Manifest, folder: &FilePath, anew: bool) -> Result<Pushed, Trouble> {
        let _slot = self.slots.acquire().await;
        let there = || self.manifest(&manifest.key.kind, manifest.fingerprint);
        let anew = match there().await {
            Ok(Some(first)) if !anew => match self.mend(&first, manifest, folder).await? {
                Mended::With(bytes) => return Ok(self.pushed(first, (bytes > 0).then_some(bytes))),
                Mended::Not => true,
            },
            Ok(_) => anew,
            Err(Trouble::Artifact(_)) => true,
            Err(trouble) => return Err(trouble),
        };
        let create_only = *self.create_only.get_or_try_init(|| self.keeps_to_create_only()).await?;
        let blobs: Vec<_> =
            manifest.files.iter().map(|(name, entry)| self.put(folder.join(name), entry, anew)).collect();
        let bytes: Vec<u64> = stream::iter(blobs).buffer_unordered(AT_A_TIME).try_collect().await?;
        let mode = if create_only && !anew { PutMode::Create } else { PutMode::Overwrite };
        if !create_only && !anew {
            // The server doesn't see to it that the first manifest stays; another writer may have been here meanwhile.
            if let Some(first) = there().await? {
                return Ok(self.pushed(first, None));
            }
        }
        let text = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
        let path = manifest_path(&manifest.key.kind, manifest.fingerprint);
        match self.store.put_opts(&path, text.into(), mode.into()).await {
            Ok(_) => Ok(self.pushed(manifest.clone(), Some(bytes.iter().sum()))),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let first = there().await?.unwrap_or_else(|| manifest.clone());
                Ok(self.pushed(first, None))
            }
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// Brings files again that a manifest names and that are gone, if this artifact has them all.
    async fn mend(&self, first: &Manifest, own: &Manifest, folder: &FilePath) -> Result<Mended, Trouble> {
        let mut bytes = 0;
        for (name, entry) in &first.files {
            match self.store.head(&blob_path(entry.digest)).await {
                Ok(there) if there.size == entry.size_bytes => {}
                Ok(_) | Err(Error::NotFound { .. }) if own.files.get(name) == Some(entry) => {
                    bytes += self.put(folder.join(name), entry, false).await?;
                }
                Ok(_) | Err(Error::NotFound { .. }) => return Ok(Mended::Not),
                Err(error) => return Err(self.explain(&error)),
            }
        }
        Ok(Mended::With(bytes))
    }

    fn pushed(&self, manifest: Manifest, bytes: Option<u64>) -> Pushed {
        Pushed { manifest: Box::new(manifest), bytes, create_only: self.create_only.get().copied() }
    }

    /// Uploads a file, unless it is there; returns how many bytes went.
    async fn put(&self, file: PathBuf, entry: &FileEntry, anew: bool) -> Result<u64, Trouble> {
        let path = blob_path(entry.digest);
        match self.store.head(&path).await {
            Ok(there) if there.size == entry.size_bytes && !anew => return Ok(0),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.explain(&error)),
        }
        let reading = || format!("reading `{}`", file.display());
        let hashed = file.clone();
        let digest = spawn_blocking(move || Digest::of_file(&hashed)).await.expect("hashing does not panic");
        if digest.with_context(reading).map_err(Trouble::Artifact)? != entry.digest {
            return Err(Trouble::Artifact(anyhow::anyhow!("the bytes of `{}` have changed", file.display())));
        }
        let sent = if entry.size_bytes <= PART_BYTES {
            let bytes = fs::read(&file).await.with_context(reading).map_err(Trouble::Artifact)?;
            self.store.put(&path, PutPayload::from(bytes)).await.map(drop)
        } else {
            let mut file = File::open(&file).await.with_context(reading).map_err(Trouble::Artifact)?;
            self.put_in_parts(&path, &mut file, entry.size_bytes).await
        };
        sent.map(|()| entry.size_bytes).map_err(|error| self.explain(&error))
    }

    async fn put_in_parts(&self, path: &Path, file: &mut File, size_bytes: u64) -> object_store::Result<()> {
        let part_bytes = PART_BYTES.max(size_bytes / MOST_PARTS) as usize;
        let mut parts = WriteMultipart::new_with_chunk_size(self.store.put_multipart(path).await?, part_bytes);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let sent = async {
                let read = file
                    .read(&mut buffer)
                    .await
                    .map_err(|error| Error::Generic { store: "file", source: error.into() })?;
                parts.wait_for_capacity(AT_A_TIME).await?;
                parts.write(&buffer[..read]);
                Ok(read)
            };
            match sent.await {
                Ok(0) => return parts.finish().await.map(drop),
                Ok(_) => {}
                Err(error) => {
                    // The parts would lie there, unseen and paid for.
                    _ = parts.abort().await;
                    return Err(error);
                }
            }
        }
    }

    /// Asks twice to create the same thing: some servers ignore that it must not be there.
    async fn keeps_to_create_only(&self) -> Result<bool, Trouble> {
        let path = Path::from("create-only");
        for _ in 0..2 {
            match self.store.put_opts(&path, PutPayload::from_static(b"bam\n"), PutMode::Create.into()).await {
                Ok(_) => {}
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => return Ok(true),
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => return Ok(false),
                Err(error) => return Err(self.explain(&error)),
            }
        }
        Ok(false)
    }

    fn explain(&self, error: &Error) -> Trouble {
        explain(error, &self.shown)
    }
}

fn manifest_path(kind: &str, fingerprint: Fingerprint) -> Path {
    Path::from_iter(["manifests", kind, &format!("{fingerprint}.json")])
}

fn blob_path(digest: Digest) -> Path {
    Path::from_iter(["blobs", &digest.to_string()])
}

/// A manifest that is of the computation asked for, agrees with itself, and names files inside the artifact only.
fn sound(manifest: Manifest, fingerprint: Fingerprint) -> Result<Manifest> {
    if let Some(mistake) = manifest.mistake(fingerprint) {
        bail!("it {mistake}");
    }
    let is_inside = |name: &String| FilePath::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match manifest.files.keys().find(|name| !is_inside(name)) {
        Some(name) => bail!("`{name}` would lie outside the artifact"),
        None => Ok(manifest),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bam_contract::artifact::ArtifactKind;
    use bam_contract::manifest::{Key, Provenance};

    use super::*;

    fn manifest_with(file: &str) -> Manifest {
        let key = Key {
            kind: "tokenize".to_owned(),
            version: 1,
            params: serde_json::json!({}),
            inputs: BTreeMap::new(),
            external: BTreeMap::new(),
        };
        let entry = FileEntry { size_bytes: 1, digest: Digest::of(b"a"), content: Digest::of(b"a") };
        let files = BTreeMap::from([(file.to_owned(), entry)]);
        Manifest {
            fingerprint: key.fingerprint(),
            stage: "tokens".to_owned(),
            artifact: ArtifactKind::Tokens,
            key,
            content: Manifest::content_of(ArtifactKind::Tokens, &files),
            files,
            summary: String::new(),
            metrics: BTreeMap::new(),
            provenance: Provenance::default(),
        }
    }

    #[test]
    fn a_manifest_must_be_its_own_and_stay_inside() {
        let told = |manifest: Manifest, fingerprint| sound(manifest, fingerprint).map(drop).map_err(|e| e.to_string());
        let good = manifest_with("dev/a.parquet");
        let fingerprint = good.fingerprint;
        assert_eq!(told(good.clone(), fingerprint), Ok(()));
        let other = Fingerprint::of("another key");
        assert_eq!(told(good.clone(), other), Err("it is of another computation".to_owned()));
        let disagrees = Manifest { content: Digest::of(b"b"), ..good };
        assert_eq!(told(disagrees, fingerprint), Err("it has digests that do not agree".to_owned()));
        for outside in ["../a.parquet", "/a.parquet", "dev/../../a.parquet"] {
            assert_eq!(
                told(manifest_with(outside), fingerprint),
                Err(format!("`{outside}` would lie outside the artifact"))
            );
        }
    }
}
