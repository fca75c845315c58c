//! A file that is one typed value, without variables, axes and includes. Its mistakes are told as a pipeline file's are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::mistake::Mistakes;
use super::source::Source;
use super::typed::typed;
use super::yaml;

/// Reads a file, which is called `what` in messages. Nothing is returned where a file is no YAML.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, what: &str) -> Result<(Option<T>, Mistakes)> {
    let shown = path.display().to_string();
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Fault::new(format!("{what} `{shown}` does not exist"), "the path is relative to this folder").into()
            );
        }
        read => read.with_context(|| format!("reading `{shown}`"))?,
    };
    let mut mistakes = Mistakes::new(Source::new(shown));
    let Some((root, places, _)) = yaml::parse(path, &bytes, &mut mistakes) else { return Ok((None, mistakes)) };
    mistakes.source.places = places;
    let value = match serde_json::to_value(&root) {
        Ok(value @ Value::Object(_)) => value,
        Ok(Value::Null) => Value::Object(serde_json::Map::new()),
        Ok(_) => {
            mistakes.add(mistakes.source.value(&[]), format!("{what} is not a mapping of names to values"), None);
            return Ok((None, mistakes));
        }
        Err(error) => {
            mistakes.add(mistakes.source.value(&[]), format!("{what}: {error}"), None);
            return Ok((None, mistakes));
        }
    };
    let (value, flaws) = typed::<T>(value);
    for flaw in flaws {
        let source = &mistakes.source;
        let place = if flaw.in_name { source.key(&flaw.path) } else { source.value(&flaw.path) };
        mistakes.add(place, flaw.message(&format!("the {what}")), flaw.hint);
    }
    Ok((value, mistakes))
}
