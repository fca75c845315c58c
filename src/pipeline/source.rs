//! Where the entries of a pipeline's files stand, for messages that point at them.

use super::places::Places;

/// Where an entry was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// `file` counts from 0, line and column from 1; the width is in characters.
    File { file: usize, line: usize, column: usize, width: usize },
    /// On the command line.
    Override(String),
}

/// The texts of a pipeline's files, and the places of its entries.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The pipeline file, as the user named it.
    pub(crate) file: String,
    /// Names and texts of all files, the pipeline file among them.
    files: Vec<(String, String)>,
    pub(super) places: Places,
}

impl Source {
    /// Of a pipeline file that is still to be read.
    pub(crate) fn new(file: String) -> Self {
        Self { file, files: Vec::new(), places: Places::default() }
    }

    /// Takes a file's text up; returns the file's number.
    pub(super) fn add(&mut self, name: String, text: String) -> usize {
        self.files.push((name, text));
        self.files.len() - 1
    }

    /// Place of an entry's name, or of the nearest thing around it that has a place.
    pub(crate) fn key(&self, path: &[String]) -> Place {
        self.places.key(path)
    }

    /// Place of an entry's value, or of the nearest thing around it that has a place.
    pub(crate) fn value(&self, path: &[String]) -> Place {
        self.places.value(path)
    }

    /// Whether the entry itself is written somewhere.
    pub(crate) fn holds(&self, path: &[String]) -> bool {
        self.places.holds(path)
    }

    /// Says that the entry, with all below it, now comes from the command line.
    pub(crate) fn set_override(&mut self, path: &[String], argument: &str) {
        self.places.remove(path);
        self.places.insert(path.to_vec(), Place::Override(argument.to_owned()));
    }

    /// A line of a file, counted from 1.
    pub(crate) fn line(&self, file: usize, number: usize) -> &str {
        self.files[file].1.lines().nth(number - 1).unwrap_or_default()
    }

    /// `pipeline.yaml:3:74`, or the argument.
    pub(crate) fn show(&self, place: &Place) -> String {
        match place {
            Place::File { file, line, column, .. } => format!("{}:{line}:{column}", self.files[*file].0),
            Place::Override(argument) => format!("--set {argument}"),
        }
    }
}

/// A text's lines, to tell a character's line and column.
pub(super) struct Lines {
    /// Number of each line's first character.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let breaks = text.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The place of characters, counted from 0; of the first alone, where they run over lines.
    pub(super) fn place(&self, file: usize, start: usize, end: usize) -> Place {
        let line = self.starts.partition_point(|first| *first <= start);
        let next = self.starts.get(line).copied().unwrap_or(usize::MAX);
        let width = if end < next { end.saturating_sub(start).max(1) } else { 1 };
        Place::File { file, line, column: start - self.starts[line - 1] + 1, width }
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::entry_path;
    use super::*;

    #[test]
    fn an_override_hides_what_was_below() {
        let mut source = Source::new("f".to_owned());
        let file = source.add("f".to_owned(), "a: { b: 1 }".to_owned());
        source.places = Places::of(file, "a: { b: 1 }");
        assert_eq!(source.show(&source.key(&entry_path("a.b"))), "f:1:6");
        source.set_override(&entry_path("a"), "a={}");
        assert_eq!(source.show(&source.key(&entry_path("a.b"))), "--set a={}");
    }
}
