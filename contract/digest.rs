//! Content digests. A [`Digest`] names content; a [`Fingerprint`] names a computation. Never mixed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// BLAKE3 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// BLAKE3 of a stage's key: the name of a computation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Its first eight bytes as a number, for what shall depend on content and yet look random.
    pub fn number(self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("a digest has 32 bytes"))
    }

    /// Digest of a file's bytes, as `b3sum` prints it (memory-mapped, all cores).
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(path)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// Digest of a file with every occurrence of `fingerprint` replaced by zeros.
    ///
    /// Files name the computation that made them in their own metadata. What they *hold* must not
    /// depend on that name, or an output that did not change would still rerun everything after it.
    pub fn of_content(path: &Path, fingerprint: Fingerprint) -> io::Result<Self> {
        let needle = fingerprint.to_string().into_bytes();
        let finder = memchr::memmem::Finder::new(&needle);
        let mut hasher = blake3::Hasher::new();
        let mut file = File::open(path)?;
        let mut buffer = Vec::with_capacity(MASK_CHUNK_BYTES + needle.len());
        loop {
            let read = file.by_ref().take(MASK_CHUNK_BYTES as u64).read_to_end(&mut buffer)?;
            while let Some(at) = finder.find(&buffer) {
                buffer[at..at + needle.len()].fill(b'0');
            }
            // A name may straddle two chunks: hold back its length less one.
            let keep = if read == 0 { 0 } else { buffer.len().min(needle.len() - 1) };
            let done = buffer.len() - keep;
            hasher.update_rayon(&buffer[..done]);
            buffer.drain(..done);
            if read == 0 {
                return Ok(Self(*hasher.finalize().as_bytes()));
            }
        }
    }
}

const MASK_CHUNK_BYTES: usize = 8 << 20;

impl Fingerprint {
    pub fn of(canonical_json: &str) -> Self {
        Self(*blake3::hash(canonical_json.as_bytes()).as_bytes())
    }
}

macro_rules! hexadecimal {
    ($name:ident) => {
        impl $name {
            /// The first eight hexadecimal digits: enough for a person.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl std::str::FromStr for $name {
            type Err = blake3::HexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes()))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}
hexadecimal!(Digest);
hexadecimal!(Fingerprint);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_digest() {
        // The BLAKE3 paper's digest of no bytes.
        assert_eq!(Digest::of(b"").to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn a_name_that_straddles_two_chunks_is_masked() {
        let dir = tempfile::tempdir().unwrap();
        let digest = |key: &str| {
            let fingerprint = Fingerprint::of(key);
            let mut bytes = vec![b'x'; MASK_CHUNK_BYTES - 20];
            bytes.extend(fingerprint.to_string().into_bytes());
            bytes.extend(b"tail");
            let path = dir.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            Digest::of_content(&path, fingerprint).unwrap()
        };
        assert_eq!(digest("one"), digest("two"));
    }

    proptest! {
        #[test]
        fn content_digest_sees_every_byte_but_the_name(bytes: Vec<u8>, at: prop::sample::Index) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let digest = |bytes: &[u8], key: &str| {
                let fingerprint = Fingerprint::of(key);
                std::fs::write(&path, [bytes, fingerprint.to_string().as_bytes()].concat()).unwrap();
                Digest::of_content(&path, fingerprint).unwrap()
            };
            let before = digest(&bytes, "one");
            prop_assert_eq!(before, digest(&bytes, "two"));
            if !bytes.is_empty() {
                let mut changed = bytes.clone();
                let at = at.index(changed.len());
                changed[at] ^= 1;
                prop_assert_ne!(before, digest(&changed, "one"));
            }
        }
    }
}
