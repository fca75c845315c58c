//! A file's YAML, with the places of its entries.

use std::path::Path;

use serde_yaml::Value as Yaml;

use super::mistake::Mistakes;
use super::places::{EntryPath, Places};
use super::source::Lines;
use super::values::{self, Wrong};

/// Takes a file up: its values, the places of its entries, and the paths of those that are given twice. Mistakes are collected,
/// and nothing is returned where it is no YAML.
pub(super) fn parse(path: &Path, bytes: &[u8], mistakes: &mut Mistakes) -> Option<(Yaml, Places, Vec<EntryPath>)> {
    let shown = path.display().to_string();
    let text = String::from_utf8_lossy(bytes).into_owned();
    let places = Places::of(mistakes.source.add(shown, text.clone()), &text);
    let place = |at: usize| Lines::of(&text).place(places.file, at, at);
    if let Err(error) = str::from_utf8(bytes) {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).chars().count();
        mistakes.add(place(valid), "not UTF-8 text", None);
        return None;
    }
    match values::read(&text) {
        Ok((root, wrong)) => {
            let twice = tell(wrong, &places, mistakes);
            Some((root, places, twice))
        }
        Err(error) => {
            let index_bytes = error.location().map_or(0, |at| at.index());
            let at = text.char_indices().take_while(|(index, _)| *index < index_bytes).count();
            let is_tab = text[index_bytes.min(text.len())..].starts_with('\t');
            let hint = is_tab.then(|| "a tab stands there: YAML indents by spaces alone".to_owned());
            mistakes.add(place(at), syntax_message(&error), hint);
            None
        }
    }
}

/// Tells what is wrong with a file's values; returns the paths of entries that are given twice.
fn tell(wrong: Vec<(EntryPath, Wrong)>, places: &Places, mistakes: &mut Mistakes) -> Vec<EntryPath> {
    let mut twice = places.twice.clone();
    let mut told = Vec::new();
    for (path, wrong) in wrong {
        let (message, hint) = wrong.message(&path);
        match wrong {
            Wrong::Twice => {
                match twice.iter().position(|(known, ..)| *known == path) {
                    Some(at) => {
                        let (_, first, second) = twice.remove(at);
                        let first = mistakes.source.show(&first);
                        mistakes.add(second, format!("{message}; first at {first}"), hint);
                    }
                    // One that an alias repeats, if others have places.
                    None if !places.twice.is_empty() => {}
                    None => mistakes.add(places.key(&path), message, hint),
                }
                told.push(path);
            }
            Wrong::TooLarge(_) | Wrong::NotFinite(_) => mistakes.add_unread(places.value(&path), message, hint),
            Wrong::NotMerged => mistakes.add(places.value(&path), message, hint),
        }
    }
    told
}

/// The library's message without the place, which is told apart.
fn syntax_message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    format!("not YAML: {text}")
}
