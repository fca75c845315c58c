//! Parameters of `exec`: a stage of the user's own, computed by any program.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::de::{self, Deserializer, SeqAccess, value::SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Input, StageRef};
use crate::artifact::ArtifactKind;
use crate::external::External;
use crate::fault::Fault;

/// Parameters of `exec`. The program is given the job file as its last argument; `docs/exec.md` says what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecParams {
    /// The program, found by `PATH` unless its name has a `/`, and its arguments. One that is the path of a file, as a
    /// script's is, counts among `files`.
    pub run: Vec<String>,
    /// Artifacts it reads, of any kind, by names of the user's.
    #[serde(default)]
    pub inputs: BTreeMap<String, Stages>,
    /// Other files it reads; a folder stands for all files in it.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Whatever else it is to know.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// What it makes.
    #[serde(default = "files")]
    pub writes: ArtifactKind,
}

fn files() -> ArtifactKind {
    ArtifactKind::Files
}

/// One stage, or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Stages {
    One(StageRef),
    List(Vec<StageRef>),
}

/// By hand, for serde's own messages about untagged enums say nothing of what was wanted.
impl<'de> Deserialize<'de> for Stages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Stages;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stage or a list of stages")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Stages, E> {
                Ok(Stages::One(StageRef(name.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Stages, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Stages::List)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl ExecParams {
    /// What it reads from other stages: `name`, or `name.0`, `name.1` … of a list.
    pub(super) fn inputs(&self) -> Vec<Input> {
        let input = |slot: String, stage: &StageRef| {
            let at = ["inputs"].into_iter().chain(slot.split('.')).map(ToOwned::to_owned).collect();
            Input { slot, stage: stage.clone(), accepts: &ArtifactKind::ALL, at }
        };
        let of_name = |(name, stages): (&String, &Stages)| match stages {
            Stages::One(stage) => vec![input(name.clone(), stage)],
            Stages::List(list) => {
                list.iter().enumerate().map(|(index, stage)| input(format!("{name}.{index}"), stage)).collect()
            }
        };
        self.inputs.iter().flat_map(of_name).collect()
    }

    /// `files`, and the files among the words of `run`.
    pub(super) fn external(&self) -> Result<Vec<External>> {
        let mut found = BTreeMap::new();
        let absent: Vec<String> =
            self.files.iter().filter(|path| !path.exists()).map(|path| format!("`{}`", path.display())).collect();
        if !absent.is_empty() {
            let (files, do_not) =
                if absent.len() == 1 { ("file", "does not exist") } else { ("files", "do not exist") };
            let hint = "paths are relative to the folder that `bam` runs in";
            return Err(Fault::new(format!("{files} {} {do_not}", absent.join(", ")), hint).into());
        }
        for path in &self.files {
            if path.is_dir() {
                add_all_in(path, &mut Vec::new(), &mut found)?;
            } else if path.is_file() {
                found.insert(slot(path), path.clone());
            } else if path.exists() {
                let what = format!("`{}` is neither a file nor a folder", path.display());
                return Err(Fault::new(what, "its bytes are part of the stage's key").into());
            }
        }
        // A program by its whole path is the machine's, as one found by `PATH` is.
        let is_named = |at: usize, word: &str| at > 0 || (word.contains('/') && Path::new(word).is_relative());
        let named = self.run.iter().enumerate().filter(|(at, word)| is_named(*at, word));
        let scripts = named.map(|(_, word)| Path::new(word)).filter(|path| path.is_file());
        found.extend(scripts.map(|path| (slot(path), path.to_owned())));
        Ok(found.into_iter().map(|(slot, path)| External::new(slot, &path)).collect())
    }

    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        match self.run.first().map(String::as_str) {
            None | Some("") => mistakes.push(("run", "names no program".to_owned())),
            Some(program) if program.contains('/') && !is_program(Path::new(program)) => {
                mistakes.push(("run", format!("`{program}` is no program: no such file, or not executable")));
            }
            Some(program) if !program.contains('/') && !is_on_path(program) => {
                mistakes.push(("run", format!("no program `{program}` in the folders of `PATH`")));
            }
            Some(_) => {}
        }
        for name in self.inputs.keys().filter(|name| name.is_empty() || name.contains('.')) {
            mistakes.push(("inputs", format!("`{name}` is no name for an input: it needs letters, and no dot")));
        }
        mistakes
    }
}

/// A file's name in the key: its path as written, without any `./`.
fn slot(path: &Path) -> String {
    let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    plain.display().to_string()
}

/// Adds the files below a folder, but for hidden ones and what Python compiles scripts to. A link to a folder that it lies in
/// (`around`) holds nothing more.
fn add_all_in(folder: &Path, around: &mut Vec<PathBuf>, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let reading = || format!("reading the folder `{}`", folder.display());
    let real = folder.canonicalize().with_context(reading)?;
    if around.contains(&real) {
        return Ok(());
    }
    around.push(real);
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let (name, path) = (entry.file_name(), entry.path());
        if name.as_encoded_bytes().starts_with(b".") || name == "__pycache__" {
            continue;
        }
        if path.is_dir() {
            add_all_in(&path, around, found)?;
        } else if !path.is_file() {
            let what = format!("`{}` is neither a file nor a folder, nor leads to one", path.display());
            return Err(Fault::new(what, "remove it, or name the files one by one").into());
        } else if path.to_str().is_none() {
            let what = format!("the name of `{}` is not UTF-8", path.display());
            return Err(Fault::new(what, "rename it: it is part of the stage's key").into());
        } else {
            found.insert(slot(&path), path);
        }
    }
    around.pop();
    Ok(())
}

fn is_on_path(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| is_program(&folder.join(program)))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(json: &str) -> ExecParams {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_list_of_inputs_is_numbered() {
        let params = params(r#"{"run": ["sh"], "inputs": {"rows": "a", "many": ["b", "c"]}}"#);
        let inputs: Vec<_> = params.inputs().into_iter().map(|input| (input.slot, input.stage.0, input.at)).collect();
        let expected = [
            ("many.0", "b", vec!["inputs", "many", "0"]),
            ("many.1", "c", vec!["inputs", "many", "1"]),
            ("rows", "a", vec!["inputs", "rows"]),
        ];
        let expected = expected.map(|(slot, stage, at)| {
            (slot.to_owned(), stage.to_owned(), at.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())
        });
        assert_eq!(inputs, expected);
        assert_eq!(params.writes, ArtifactKind::Files);
    }

    #[test]
    fn a_folder_stands_for_its_files_and_a_script_counts_among_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir_all(folder.path().join("lib/__pycache__")).unwrap();
        for name in ["lib/a.py", "lib/.hidden", "lib/__pycache__/a.pyc", "tool"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let mut params = params(r#"{"run": ["sh"]}"#);
        params.files = vec![folder.path().join("./lib"), folder.path().join("lib/a.py")];
        let slots: Vec<String> = params.external().unwrap().into_iter().map(|file| file.slot).collect();
        assert_eq!(slots, [at("lib/a.py")]);

        params.run = vec![at("tool")];
        assert_eq!(
            params.mistakes(),
            [("run", format!("`{}` is no program: no such file, or not executable", at("tool")))]
        );
        params.run = vec!["cat".to_owned(), "Cargo.toml".to_owned(), "./lib.rs".to_owned(), "-".to_owned()];
        params.files.clear();
        let slots: Vec<String> = params.external().unwrap().into_iter().map(|file| file.slot).collect();
        assert_eq!((slots, params.mistakes()), (vec!["Cargo.toml".to_owned(), "lib.rs".to_owned()], vec![]));

        params.files = vec!["absent".into()];
        assert_eq!(params.external().unwrap_err().to_string(), "file `absent` does not exist");
        params.run = vec!["no-such-program".to_owned()];
        params.inputs.insert("a.b".to_owned(), Stages::List(Vec::new()));
        assert_eq!(params.mistakes().len(), 2);
    }

    #[test]
    fn folders_are_walked_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files");
        fs::create_dir_all(path.join("in")).unwrap();
        fs::write(path.join("in/one"), "1").unwrap();
        for link in ["a", "b"] {
            std::os::unix::fs::symlink(".", path.join(link)).unwrap();
        }
        let named = || params(&format!(r#"{{"run": ["sh"], "files": ["{}"]}}"#, path.display())).external();
        assert_eq!(named().unwrap().len(), 1);
        std::os::unix::fs::symlink("nowhere", path.join("c")).unwrap();
        let error = named().unwrap_err().to_string();
        assert!(error.ends_with("files/c` is neither a file nor a folder, nor leads to one"), "{error}");
        fs::remove_file(path.join("c")).unwrap();
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
        fs::write(path.join(name), "2").unwrap();
        assert!(named().unwrap_err().to_string().ends_with("is not UTF-8"));
    }
}
