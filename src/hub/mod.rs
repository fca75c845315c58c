//! Data and encoders from the Hugging Face hub.
//!
//! A stage may name a repository, `hub:owner/name@revision`, in the place of a folder. Its files lie in the cache that
//! Hugging Face's own libraries use, and are outside files like any others from then on: their content is in the key. The
//! hub is asked by `bam run` alone, for what the cache lacks, before anything runs.

mod cache;
mod checksum;
mod fetch;
mod labels;
mod listing;
mod reference;

use std::path::PathBuf;

pub(crate) use cache::Hub;
pub(crate) use checksum::{check, checksum_of};
pub(crate) use fetch::fetch;
pub(crate) use labels::{CARD, spell};
pub(crate) use reference::{Holds, Reference};

/// What is wanted of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) reference: Reference,
    /// Where its files lie, or will; unknown until it is known which commit a branch stands for.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) wanted: Vec<File>,
    /// Those of the files that are to be fetched next.
    pub(crate) lacks: Vec<String>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    /// Whether there is no doing without it.
    pub(crate) is_needed: bool,
}

impl Repository {
    /// Takes in what another stage wants of the same repository.
    pub(crate) fn merge(&mut self, other: Self) {
        for file in other.wanted {
            match self.wanted.iter_mut().find(|known| known.name == file.name) {
                Some(known) => known.is_needed |= file.is_needed,
                None => self.wanted.push(file),
            }
        }
        self.lacks.extend(other.lacks);
        self.lacks.sort();
        self.lacks.dedup();
    }
}
