//! Where the entries of a pipeline file stand, for messages that point at them.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span, StrInput};

/// Where an entry was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Line and column count from 1; the width is in characters.
    File { line: usize, column: usize, width: usize },
    /// On the command line.
    Override(String),
}

/// Path of an entry from the top of the file: `["stages", "student", "train", "tokens", "0"]`.
pub(crate) type EntryPath = Vec<String>;

/// A pipeline file's text and the places of its entries.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file, as the user named it.
    pub(crate) file: String,
    text: String,
    keys: HashMap<EntryPath, Place>,
    values: HashMap<EntryPath, Place>,
}

impl Source {
    pub(crate) fn new(file: String, text: String) -> Self {
        let mut walk = Walk { events: Parser::new_from_str(&text), keys: HashMap::new(), values: HashMap::new() };
        // A file that does not parse is reported by the reader of its values; the places found so far serve.
        let _ = walk.document();
        let Walk { keys, values, .. } = walk;
        Self { file, text, keys, values }
    }

    /// Place of an entry's name, or of the nearest thing around it that has a place.
    pub(crate) fn key(&self, path: &[String]) -> Place {
        self.keys.get(path).cloned().unwrap_or_else(|| self.value(path))
    }

    /// Place of an entry's value, or of the nearest thing around it that has a place.
    pub(crate) fn value(&self, path: &[String]) -> Place {
        let around = (0..=path.len()).rev().find_map(|end| self.values.get(&path[..end]));
        around.cloned().unwrap_or(Place::File { line: 1, column: 1, width: 1 })
    }

    /// Whether the entry itself is written somewhere.
    pub(crate) fn holds(&self, path: &[String]) -> bool {
        self.values.contains_key(path)
    }

    /// Says that the entry, with all below it, now comes from the command line.
    pub(crate) fn set_override(&mut self, path: &[String], argument: &str) {
        self.keys.retain(|known, _| !known.starts_with(path));
        self.values.retain(|known, _| !known.starts_with(path));
        self.values.insert(path.to_vec(), Place::Override(argument.to_owned()));
    }

    /// A line of the file, counted from 1.
    pub(crate) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or_default()
    }

    /// `pipeline.yaml:3:74`, or the argument.
    pub(crate) fn show(&self, place: &Place) -> String {
        match place {
            Place::File { line, column, .. } => format!("{}:{line}:{column}", self.file),
            Place::Override(argument) => format!("--set {argument}"),
        }
    }
}

/// A pass over the file's events that notes where each entry stands.
struct Walk<'a> {
    events: Parser<'a, StrInput<'a>>,
    keys: HashMap<EntryPath, Place>,
    values: HashMap<EntryPath, Place>,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        self.events.next_event()?.ok()
    }

    fn document(&mut self) -> Option<()> {
        loop {
            if let (Event::DocumentStart(_), _) = self.next()? {
                return self.node(&mut Vec::new());
            }
        }
    }

    /// Notes the next node and all below it. `None` ends the pass: end of file, an error, or a key that is no scalar.
    fn node(&mut self, path: &mut EntryPath) -> Option<()> {
        let (event, span) = self.next()?;
        self.values.insert(path.clone(), place(span));
        match event {
            Event::MappingStart(..) => loop {
                match self.next()? {
                    (Event::MappingEnd, _) => return Some(()),
                    (Event::Scalar(name, ..), span) => {
                        path.push(name.into_owned());
                        self.keys.insert(path.clone(), place(span));
                        self.node(path)?;
                        path.pop();
                    }
                    _ => return None,
                }
            },
            Event::SequenceStart(..) => {
                for index in 0.. {
                    if let Ok((Event::SequenceEnd, _)) = self.events.peek()? {
                        self.next()?;
                        break;
                    }
                    path.push(index.to_string());
                    self.node(path)?;
                    path.pop();
                }
                Some(())
            }
            _ => Some(()),
        }
    }
}

fn place(span: Span) -> Place {
    // A span that runs over lines (a block) is pointed at by its first character.
    let width = if span.start.line() == span.end.line() { span.len().max(1) } else { 1 };
    Place::File { line: span.start.line(), column: span.start.col() + 1, width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> EntryPath {
        dotted.split('.').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn entries_are_found_in_flow_and_block_style() {
        let text = "a: { b: [x, yy] }\nc:\n  d: 5\n  é: zz\n";
        let source = Source::new("f".to_owned(), text.to_owned());
        let file = |line, column, width| Place::File { line, column, width };
        assert_eq!(source.value(&path("a.b.1")), file(1, 13, 2));
        assert_eq!(source.key(&path("a.b")), file(1, 6, 1));
        assert_eq!(source.key(&path("c.d")), file(3, 3, 1));
        assert_eq!(source.value(&path("c.é")), file(4, 6, 2));
        assert_eq!(source.value(&path("c.d.none")), file(3, 6, 1), "the nearest thing around it");
    }

    #[test]
    fn an_override_hides_what_was_below() {
        let mut source = Source::new("f".to_owned(), "a: { b: 1 }".to_owned());
        source.set_override(&path("a"), "a={}");
        assert_eq!(source.show(&source.key(&path("a.b"))), "--set a={}");
    }
}
