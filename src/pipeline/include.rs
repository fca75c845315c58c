//! A pipeline file with the files that it includes, made one.
//!
//! What is included stands as if it were written above the entries of the including file, whose `vars` and `resources`
//! win over the included ones. A stage or a task is defined once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use serde_yaml::{Mapping, Value as Yaml};

use super::DEFAULT_FILE;
use super::draft::entry_name;
use super::mistake::Mistakes;
use super::places::{EntryPath, Places};
use super::source::{Place, Source};
use super::yaml;
use crate::installed;

pub(super) const INCLUDE: &str = "include";

/// Entries whose values an including file overrides; `for` where it stands, though it may not.
const OVERRIDDEN: [&str; 3] = ["vars", "resources", "for"];

/// Entries that add up; each name is defined once.
const DEFINED: [&str; 2] = ["tasks", "stages"];

/// Entries that say what a whole experiment is.
const OF_THE_PIPELINE: [&str; 3] = ["name", "seed", "for"];

/// What mistakes that were told leave unknown of a pipeline. Nothing is said of what may follow from that.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Entries that are given twice: either may be meant.
    twice: BTreeSet<EntryPath>,
    /// Whether a part could not be read that may hold any variable, task or stage: a file, or a section.
    pub(crate) more: bool,
}

impl Gaps {
    /// Whether a stage or a task is given twice.
    pub(crate) fn twice(&self, section: &str, name: &str) -> bool {
        self.twice.iter().any(|path| matches!(path.as_slice(), [of, twice] if of == section && twice == name))
    }
}

/// Reads a pipeline file and all that it includes. Nothing is returned of one that is no YAML.
///
/// # Errors
/// When the pipeline file itself cannot be read.
pub(super) fn read(path: &Path) -> Result<(Option<Yaml>, Gaps, Mistakes)> {
    let shown = path.display().to_string();
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut hint =
                "name another with `bam run FILE`, or change to its folder with `-C DIR`; `bam init` writes one"
                    .to_owned();
            if path.extension().is_none() && Path::new(DEFAULT_FILE).is_file() {
                hint += &format!("; for a stage of `{DEFAULT_FILE}` it is `bam run {DEFAULT_FILE} {shown}`");
            }
            if let Some(installed) = installed::share().map(|share| share.join(path)).filter(|path| path.is_file()) {
                hint += &format!("; `{}` came with `bam`", installed.display());
            }
            return Err(Fault::new(format!("pipeline file `{shown}` does not exist"), hint).into());
        }
        read => read.with_context(|| format!("reading `{shown}`"))?,
    };
    let mut reader = Reader {
        mistakes: Mistakes::new(Source::new(shown)),
        gaps: Gaps::default(),
        open: Vec::new(),
        read: BTreeSet::new(),
    };
    let root = reader.file(path, &bytes).map(|part| {
        reader.mistakes.source.places = part.places;
        part.root
    });
    Ok((root, reader.gaps, reader.mistakes))
}

/// One file's entries, or those of several files made one.
struct Part {
    root: Yaml,
    places: Places,
}

struct Reader {
    mistakes: Mistakes,
    gaps: Gaps,
    /// The files that are being read, each included by the one before.
    open: Vec<PathBuf>,
    /// All files read so far. One that is included twice is taken once.
    read: BTreeSet<PathBuf>,
}

impl Reader {
    /// A file with what it includes.
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Option<Part> {
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.read.insert(identity.clone());
        self.open.push(identity);
        let part = self.parse(path, bytes).map(|own| self.with_included(path, own));
        self.open.pop();
        part
    }

    fn parse(&mut self, path: &Path, bytes: &[u8]) -> Option<Part> {
        let (root, places, twice) = yaml::parse(path, bytes, &mut self.mistakes)?;
        self.gaps.more |= twice.iter().any(|path| path == &[INCLUDE]);
        self.gaps.twice.extend(twice);
        Some(Part { root, places })
    }

    /// Puts what a file includes above its own entries.
    fn with_included(&mut self, path: &Path, mut own: Part) -> Part {
        let is_included = self.open.len() > 1;
        match &mut own.root {
            Yaml::Null if is_included => own.root = Yaml::Mapping(Mapping::new()),
            Yaml::Mapping(_) => {}
            _ if is_included => {
                let message = format!("`{}` is not a mapping of names to values", path.display());
                self.mistakes.add(own.places.value(&[]), message, None);
                self.gaps.more = true;
                own.root = Yaml::Mapping(Mapping::new());
            }
            _ => return own,
        }
        let Yaml::Mapping(entries) = &mut own.root else { return own };
        if is_included {
            for name in OF_THE_PIPELINE {
                if entries.contains_key(name) {
                    let place = own.places.key(&[name.to_owned()]);
                    let hint = format!(
                        "write it in `{}`; included stages take their axes from there",
                        self.mistakes.source.file
                    );
                    self.mistakes.add(
                        place,
                        format!("`{name}` belongs to the pipeline file, not to one it includes"),
                        Some(hint),
                    );
                }
            }
        }
        let Some(included) = entries.shift_remove(INCLUDE) else { return own };
        let mut all: Option<Part> = None;
        for (named, place) in self.names(&included, &own.places) {
            if let Some(part) = self.included(path, &named, place) {
                all = Some(match all {
                    Some(all) => self.join(all, part),
                    None => part,
                });
            }
        }
        match all {
            Some(all) => self.join(all, own),
            None => own,
        }
    }

    /// The files that an `include` names, with the places where it does.
    fn names(&mut self, value: &Yaml, places: &Places) -> Vec<(String, Place)> {
        let path = |index: Option<usize>| -> Vec<String> {
            std::iter::once(INCLUDE.to_owned()).chain(index.map(|index| index.to_string())).collect()
        };
        let items: Vec<(&Yaml, Place)> = match value {
            Yaml::Sequence(items) => {
                items.iter().enumerate().map(|(index, item)| (item, places.value(&path(Some(index))))).collect()
            }
            item => vec![(item, places.value(&path(None)))],
        };
        let mut names = Vec::new();
        for (item, place) in items {
            if let Some(name) = item.as_str() {
                names.push((name.to_owned(), place));
            } else {
                self.mistakes.add(place, "`include` is not a file's path, or a list of them", None);
                self.gaps.more = true;
            }
        }
        names
    }

    /// A file named by `include`, relative to the file that names it.
    fn included(&mut self, by: &Path, named: &str, place: Place) -> Option<Part> {
        let path = by.parent().unwrap_or(Path::new("")).join(named);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let (message, hint) = match error.kind() {
                    std::io::ErrorKind::NotFound => (
                        format!("included file `{}` does not exist", path.display()),
                        if named.contains('$') {
                            "the path is taken as it stands: variables have no values here"
                        } else {
                            "the path is relative to the file that includes it"
                        },
                    ),
                    _ => (format!("included file `{}` cannot be read: {error}", path.display()), "name a YAML file"),
                };
                self.mistakes.add(place, message, Some(hint.to_owned()));
                self.gaps.more = true;
                return None;
            }
        };
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(first) = self.open.iter().position(|open| *open == identity) {
            let chain = self.open[first..].iter().chain([&identity]);
            let names: Vec<_> = chain.map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
            self.mistakes.add(place, format!("files include each other: {}", names.join(" → ")), None);
            return None;
        }
        if self.read.contains(&identity) {
            return None;
        }
        let part = self.file(&path, &bytes);
        self.gaps.more |= part.is_none();
        part
    }

    /// Two parts as one: the second stands below the first, and wins where it may.
    fn join(&mut self, mut above: Part, below: Part) -> Part {
        let (Yaml::Mapping(entries), Yaml::Mapping(added)) = (&mut above.root, below.root) else {
            unreachable!("only mappings are joined");
        };
        for (name, value) in added {
            let section = entry_name(&name);
            let adds_up = OVERRIDDEN.contains(&section.as_str()) || DEFINED.contains(&section.as_str());
            let path = [section.clone()];
            match (entries.get_mut(&name), value) {
                (Some(Yaml::Mapping(known)), Yaml::Mapping(new)) if adds_up => {
                    for (name, value) in new {
                        let path = [section.clone(), entry_name(&name)];
                        if DEFINED.contains(&section.as_str()) && known.contains_key(&name) {
                            let first = self.mistakes.source.show(&above.places.key(&path));
                            let message = format!("`{}` is given twice; first at {first}", path.join("."));
                            self.mistakes.add(below.places.key(&path), message, None);
                            self.gaps.twice.insert(path.to_vec());
                            continue;
                        }
                        // One that is overridden keeps its position.
                        known.insert(name, value);
                        above.places.take(&path, &below.places);
                    }
                }
                (Some(_), Yaml::Null) if adds_up => {}
                (_, value) => {
                    entries.insert(name, value);
                    above.places.take(&path, &below.places);
                }
            }
        }
        above.places.insert(Vec::new(), below.places.value(&[]));
        above
    }
}
