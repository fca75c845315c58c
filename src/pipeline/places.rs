//! A pass over a file's YAML that notes where each entry stands.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span, StrInput};

use super::source::{Lines, Place};

/// Path of an entry from the top of the file: `["stages", "student", "train", "tokens", "0"]`.
pub(crate) type EntryPath = Vec<String>;

/// A path from its dotted form.
pub(super) fn entry_path(dotted: &str) -> EntryPath {
    dotted.split('.').map(ToOwned::to_owned).collect()
}

/// Entries below this depth have no places of their own. YAML that is deeper is refused when its values are read.
const MOST_DEPTH: usize = 128;

/// Places of a file's entries, or of several files' that were made one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(super) file: usize,
    keys: HashMap<EntryPath, Place>,
    values: HashMap<EntryPath, Place>,
    /// Entries of one name: the path, and the places of the first and the second.
    pub(super) twice: Vec<(EntryPath, Place, Place)>,
}

impl Places {
    /// Of the file of that number. Those of a file that does not parse are found up to where it fails.
    pub(super) fn of(file: usize, text: &str) -> Self {
        let places = Self { file, ..Self::default() };
        let mut walk = Walk { events: Parser::new_from_str(text), lines: Lines::of(text), places };
        let _ = walk.document();
        walk.places
    }

    pub(super) fn key(&self, path: &[String]) -> Place {
        self.keys.get(path).cloned().unwrap_or_else(|| self.value(path))
    }

    pub(super) fn value(&self, path: &[String]) -> Place {
        let around = (0..=path.len()).rev().find_map(|end| self.values.get(&path[..end]));
        around.cloned().unwrap_or(Place::File { file: self.file, line: 1, column: 1, width: 1 })
    }

    pub(super) fn holds(&self, path: &[String]) -> bool {
        self.values.contains_key(path)
    }

    pub(super) fn insert(&mut self, path: EntryPath, value: Place) {
        self.values.insert(path, value);
    }

    /// Forgets an entry, with all below it.
    pub(super) fn remove(&mut self, path: &[String]) {
        self.keys.retain(|known, _| !known.starts_with(path));
        self.values.retain(|known, _| !known.starts_with(path));
    }

    /// Takes an entry, with all below it, from where it now comes.
    pub(super) fn take(&mut self, path: &[String], from: &Self) {
        self.remove(path);
        let below = |(known, place): (&EntryPath, &Place)| (known.clone(), place.clone());
        self.keys.extend(from.keys.iter().filter(|(known, _)| known.starts_with(path)).map(below));
        self.values.extend(from.values.iter().filter(|(known, _)| known.starts_with(path)).map(below));
    }
}

struct Walk<'a> {
    events: Parser<'a, StrInput<'a>>,
    lines: Lines,
    places: Places,
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
        let is_scalar = matches!(event, Event::Scalar(..) | Event::Alias(_));
        // A list or mapping is pointed at by its first character.
        let place = self.place(if is_scalar { span } else { Span::empty(span.start) });
        self.places.values.insert(path.clone(), place);
        if path.len() == MOST_DEPTH {
            return None;
        }
        match event {
            Event::MappingStart(..) => loop {
                match self.next()? {
                    (Event::MappingEnd, _) => return Some(()),
                    (Event::Scalar(name, ..), span) => {
                        path.push(name.into_owned());
                        let place = self.place(span);
                        if let Some(first) = self.places.keys.insert(path.clone(), place.clone()) {
                            self.places.twice.push((path.clone(), first, place));
                        }
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

    fn place(&self, span: Span) -> Place {
        self.lines.place(self.places.file, span.start.index(), span.end.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_in_flow_and_block_style() {
        let places = Places::of(0, "a: { b: [x, yy] }\nc:\n  d: 5\n  é: zz\n");
        let file = |line, column, width| Place::File { file: 0, line, column, width };
        assert_eq!(places.value(&entry_path("a.b.1")), file(1, 13, 2));
        assert_eq!(places.key(&entry_path("a.b")), file(1, 6, 1));
        assert_eq!(places.key(&entry_path("c.d")), file(3, 3, 1));
        assert_eq!(places.value(&entry_path("c.é")), file(4, 6, 2));
        assert_eq!(places.value(&entry_path("c.d.none")), file(3, 6, 1), "the nearest thing around it");
    }

    #[test]
    fn an_entry_that_stands_twice() {
        let places = Places::of(0, "a: { b: 1 }\na: 2\n");
        let file = |line, column, width| Place::File { file: 0, line, column, width };
        assert_eq!(places.twice, [(entry_path("a"), file(1, 1, 1), file(2, 1, 1))]);
    }
}
