//! `hub:owner/name@revision`.

use std::fmt;

use bam_contract::fault::Fault;
use hf_hub::{Repo, RepoType};

const KNOWN: &str = "write `hub:owner/name@revision`; the revision is a commit's 40 digits, a tag or a branch";

/// A repository of the hub, and which of its states is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) holds: Holds,
    name: String,
    revision: Option<String>,
}

/// What is in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holds {
    Dataset,
    Model,
}

impl Reference {
    /// Reads a reference; `None` where the text is the path of a folder.
    pub(crate) fn parse(text: &str, holds: Holds) -> Option<Result<Self, Fault>> {
        let rest = text.strip_prefix("hub:")?;
        let (name, revision) = match rest.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (rest, None),
        };
        let is_part = |part: &str| {
            let is_plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            is_plain && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let is_name = name.split('/').count() <= 2 && name.split('/').all(is_part);
        let owned = match holds {
            Holds::Model if name.starts_with("bert-") => format!("google-bert/{name}"),
            Holds::Model | Holds::Dataset => format!("owner/{name}"),
        };
        Some(if is_name && !name.contains('/') {
            let hint = format!("write `hub:{owned}`, with the repository's owner; the hub's page of it has both");
            Err(Fault::new(format!("`{text}` names no owner"), hint))
        } else if !is_name {
            Err(Fault::new(format!("`{text}` names no repository of the hub"), KNOWN))
        } else if !revision.is_none_or(|revision| revision.split('/').all(is_part)) {
            Err(Fault::new(format!("`{text}` has no revision after its `@`"), KNOWN))
        } else {
            Ok(Self { holds, name: name.to_owned(), revision: revision.map(ToOwned::to_owned) })
        })
    }

    /// Owner and name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Whether it names a commit, which never changes.
    pub(crate) fn is_pinned(&self) -> bool {
        is_commit(self.revision())
    }

    /// The same repository at a commit.
    pub(crate) fn at(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }

    pub(super) fn repo(&self) -> Repo {
        let kind = match self.holds {
            Holds::Dataset => RepoType::Dataset,
            Holds::Model => RepoType::Model,
        };
        Repo::with_revision(self.name.clone(), kind, self.revision().to_owned())
    }
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hexadecimal(text)
}

pub(super) fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hub:{}", self.name)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let parsed = |text: &str| {
            let reference = Reference::parse(text, Holds::Model)?.map_err(|fault| fault.to_string());
            Some(reference.map(|it| (it.to_string(), it.revision().to_owned(), it.is_pinned())))
        };
        let sound = |text: &str, revision: &str, is_pinned| Some(Ok((text.to_owned(), revision.to_owned(), is_pinned)));
        assert_eq!(parsed("enc"), None);
        assert_eq!(parsed("hub:bert-base-uncased"), Some(Err("`hub:bert-base-uncased` names no owner".to_owned())));
        assert_eq!(parsed("hub:a/b@refs/pr/1"), sound("hub:a/b@refs/pr/1", "refs/pr/1", false));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(parsed(&format!("hub:a/b@{commit}")), sound(&format!("hub:a/b@{commit}"), commit, true));
        for wrong in ["hub:", "hub:/b", "hub:a/", "hub:a/b/c", "hub:../b", "hub:a b", "hub:@main"] {
            assert_eq!(parsed(wrong), Some(Err(format!("`{wrong}` names no repository of the hub"))));
        }
        for wrong in ["hub:a/b@", "hub:a/b@../c", "hub:a/b@/c", "hub:a/b@c d"] {
            assert_eq!(parsed(wrong), Some(Err(format!("`{wrong}` has no revision after its `@`"))));
        }
    }
}
