//! What is wrong with a pipeline file: all of it, each with its place.

use std::fmt;

use super::source::{Place, Source};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) place: Option<Place>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The stage as written, and as expanded, that the mistake was found in.
    owner: Option<(String, String)>,
}

/// The error that a bad pipeline file gives.
#[derive(Debug)]
pub(crate) struct Mistakes {
    pub(crate) source: Source,
    pub(crate) list: Vec<Mistake>,
    /// Where values stand that could not be read, and others were put in their place: nothing more is said of those.
    unread: Vec<Place>,
}

impl Mistakes {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, list: Vec::new(), unread: Vec::new() }
    }

    /// A mistake of a value that can not be read.
    pub(crate) fn add_unread(&mut self, place: Place, message: String, hint: Option<String>) {
        self.add(place.clone(), message, hint);
        self.unread.push(place);
    }

    pub(crate) fn add(&mut self, place: impl Into<Option<Place>>, message: impl Into<String>, hint: Option<String>) {
        self.push(Mistake { place: place.into(), message: message.into(), hint, owner: None });
    }

    /// A mistake of a stage, `written` in the file and `expanded` to this name. What is wrong with a written stage
    /// is usually wrong with all it expands to: only the first is told.
    pub(crate) fn add_in(
        &mut self,
        (written, expanded): (&str, &str),
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let owner = Some((written.to_owned(), expanded.to_owned()));
        let told = self.list.iter().any(|mistake| {
            mistake.place.as_ref() == Some(&place)
                && mistake.owner.as_ref().is_some_and(|(w, e)| w == written && e != expanded)
        });
        if !told {
            self.push(Mistake { place: Some(place), message: message.into(), hint, owner });
        }
    }

    /// In the order of their places; those of the command line first.
    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|mistake| match mistake.place {
            Some(Place::File { file, line, column, .. }) => (file, line, column),
            _ => (0, 0, 0),
        });
        self
    }

    fn push(&mut self, mistake: Mistake) {
        let told = |known: &Mistake| known.place == mistake.place && known.message == mistake.message;
        let is_unread = mistake.place.as_ref().is_some_and(|place| self.unread.contains(place));
        if !is_unread && !self.list.iter().any(told) {
            self.list.push(mistake);
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => write!(f, "1 mistake in `{}`", self.source.file),
            count => write!(f, "{count} mistakes in `{}`", self.source.file),
        }
    }
}

impl std::error::Error for Mistakes {}
