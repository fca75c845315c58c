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

/// Nor have those beyond so many, which only aliases of aliases come to.
const MOST_ENTRIES: usize = 100_000;

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
        let (events, lines) = (Parser::new_from_str(text), Lines::of(text));
        let mut walk = Walk { events, lines, places, anchors: HashMap::new() };
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
    /// What lies below each anchor, by the parser's number for it.
    anchors: HashMap<usize, Vec<Below>>,
}

/// An entry below an anchor: its path from there, and its places.
type Below = (EntryPath, Option<Place>, Place);

/// The parser's number for none.
const NO_ANCHOR: usize = 0;

/// The key whose value's entries count as the mapping's own, where it has none of that name.
pub(super) const MERGE: &str = "<<";

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
        let anchor = match event {
            Event::MappingStart(anchor, _) | Event::SequenceStart(anchor, _) => anchor,
            _ => NO_ANCHOR,
        };
        self.below(&event, path)?;
        if anchor != NO_ANCHOR {
            let below = self.entries_below(path);
            self.anchors.insert(anchor, below);
        }
        Some(())
    }

    /// Notes what is below a node of which `event` is the first.
    fn below(&mut self, event: &Event<'_>, path: &mut EntryPath) -> Option<()> {
        match event {
            Event::MappingStart(..) => loop {
                match self.next()? {
                    (Event::MappingEnd, _) => return self.merge(path),
                    (Event::Scalar(name, ..), span) => {
                        path.push(name.into_owned());
                        let place = self.place(span);
                        if let Some(first) = self.places.keys.get(path).cloned() {
                            // The sections of a file count whole, of other entries the last.
                            if path.len() > 1 {
                                self.places.remove(path);
                            }
                            self.places.twice.push((path.clone(), first, place.clone()));
                        }
                        self.places.keys.insert(path.clone(), place);
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
            Event::Alias(anchor) => {
                let below = self.anchors.get(anchor).cloned().unwrap_or_default();
                self.add(path, below)
            }
            _ => Some(()),
        }
    }

    /// Gives a mapping the entries that it merges.
    fn merge(&mut self, path: &EntryPath) -> Option<()> {
        let merged = [path.as_slice(), &[MERGE.to_owned()]].concat();
        if !self.places.holds(&merged) {
            return Some(());
        }
        // One mapping, or a list of them, of which the first that has an entry counts.
        let listed = (0..).map(|index: usize| [merged.as_slice(), &[index.to_string()]].concat());
        let listed: Vec<EntryPath> = listed.take_while(|item| self.places.holds(item)).collect();
        for from in if listed.is_empty() { vec![merged] } else { listed } {
            let below = self.entries_below(&from);
            self.add(path, below)?;
        }
        Some(())
    }

    /// Places entries below a path, but for those that have a place there.
    fn add(&mut self, path: &EntryPath, below: Vec<Below>) -> Option<()> {
        if self.places.values.len() + below.len() > MOST_ENTRIES {
            return None;
        }
        for (inside, key, value) in below {
            let path = [path.as_slice(), &inside].concat();
            if !self.places.holds(&path) {
                self.places.keys.extend(key.map(|key| (path.clone(), key)));
                self.places.values.insert(path, value);
            }
        }
        Some(())
    }

    fn entries_below(&self, path: &EntryPath) -> Vec<Below> {
        let Places { keys, values, .. } = &self.places;
        let below = values.iter().filter(|(known, _)| known.len() > path.len() && known.starts_with(path));
        below.map(|(known, value)| (known[path.len()..].to_vec(), keys.get(known).cloned(), value.clone())).collect()
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
    fn entries_of_an_alias_stand_where_its_anchor_is() {
        let text = "\
base: &base { a: 1, b: { c: 2 } }
more: &more { b: 3, d: 4 }
one: { <<: *base, b: 5 }
two: { <<: [*more, *base] }
all: [*base]
";
        let places = Places::of(0, text);
        let file = |line, column, width| Place::File { file: 0, line, column, width };
        assert_eq!(places.key(&entry_path("one.a")), file(1, 15, 1));
        assert_eq!(places.value(&entry_path("one.b")), file(3, 22, 1), "its own comes first");
        assert_eq!(places.value(&entry_path("two.b")), file(2, 18, 1), "the first of the list comes first");
        assert_eq!(places.value(&entry_path("two.a")), file(1, 18, 1));
        assert_eq!(places.value(&entry_path("all.0.b.c")), file(1, 29, 1));
        assert_eq!(places.value(&entry_path("all.0")), file(5, 7, 5), "the alias itself");
        assert_eq!(places.twice, []);
    }

    #[test]
    fn aliases_of_aliases_end_the_pass() {
        let level = |at: usize| format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 9].join(", "));
        let text = "a0: &a0 [x]\n".to_owned() + &(1..12).map(level).collect::<String>();
        let places = Places::of(0, &text);
        assert!(places.values.len() <= MOST_ENTRIES, "{}", places.values.len());
        assert!(places.holds(&entry_path("a3.8.8.8.0")));
    }

    #[test]
    fn an_entry_that_stands_twice() {
        let places = Places::of(0, "a: { b: 1 }\na: 2\n");
        let file = |line, column, width| Place::File { file: 0, line, column, width };
        assert_eq!(places.twice, [(entry_path("a"), file(1, 1, 1), file(2, 1, 1))]);
    }
}
