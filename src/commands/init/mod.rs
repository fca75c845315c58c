//! `bam init`.

mod guess;
mod table;

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bam_contract::fault::Fault;

use crate::cli::{InitArgs, TaskArgs};
use crate::installed;
use crate::pipeline::DEFAULT_FILE;
use crate::ui;
use guess::{Guess, quoted};
use table::Table;

/// The tree's `pipeline.yaml`, apart from it, so that who edits that needs not build `bam` anew.
const DEFAULT_PIPELINE: &str = include_str!("default.yaml");
const STARTER: &str = include_str!("starter.yaml");
/// The encoder that `make setup` brings, as the default pipeline names it.
const DEFAULT_ENCODER: &str = ".deps/encoders/all-MiniLM-L6-v2";

pub(super) fn init(args: &InitArgs) -> Result<()> {
    let path = args.folder.join(DEFAULT_FILE);
    let path = path.strip_prefix(".").unwrap_or(&path);
    if path.exists() {
        return Err(exists(path));
    }
    if !args.folder.exists()
        && args.folder.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
    {
        let hint = "name the folder that `pipeline.yaml` is to be written to, or none";
        return Err(Fault::new(format!("`{}` is no folder", args.folder.display()), hint).into());
    }
    let encoder = Encoder::find(args)?;
    let (text, choice) = match &args.task {
        None => (DEFAULT_PIPELINE.replace(DEFAULT_ENCODER, &encoder.written), None),
        Some(task) => for_task(task, args, &encoder).map(|(text, choice)| (text, Some(choice)))?,
    };
    fs::create_dir_all(&args.folder).with_context(|| format!("making `{}`", args.folder.display()))?;
    let mut file = match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(path)),
        file => file.with_context(|| format!("writing `{}`", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("writing `{}`", path.display()))?;
    ui::story(&format!("wrote `{}`; `bam plan {0}` says what it would run", path.display()));
    if let Some(choice) = choice {
        ui::story(&format!("{choice}\n`--label`, `--text` and `--pair` choose other columns"));
    }
    if !encoder.is_there {
        let message = format!(
            "no encoder was found: put a BERT's Hugging Face folder's path at `vars.encoder` of `{}`",
            path.display()
        );
        ui::error::warn(&anyhow::Error::msg(message));
    }
    Ok(())
}

fn exists(path: &Path) -> anyhow::Error {
    let hint = "name another folder, `bam init DIR`, or remove the file yourself";
    Fault::new(format!("`{}` exists already; nothing was written", path.display()), hint).into()
}

/// The starter pipeline with what is known of the data put in, and the columns that were chosen, in words.
fn for_task(task: &TaskArgs, args: &InitArgs, encoder: &Encoder) -> Result<(String, String)> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_".contains(c);
    if task.name.is_empty() || !task.name.chars().all(is_plain) {
        let hint = "use letters, digits, `-` and `_`: it becomes part of stages' names";
        return Err(Fault::new(format!("`{}` is no name for a task", task.name), hint).into());
    }
    let columns = [&task.text, &task.pair, &task.label].map(Option::as_deref);
    let table = Table::read(&task.data, !task.no_header)?;
    let guess = Guess::of(&table, &task.name, columns)?;
    let folder = task.data.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = task.data.file_name().unwrap_or_default().to_string_lossy();
    guess.check(&task.name, &file)?;
    guess.doubts().into_iter().for_each(|doubt| ui::error::warn(&doubt.into()));
    let parts = [
        ("<name>", quoted(&task.name)),
        ("<data>", quoted(&args.path(folder)?.to_string_lossy())),
        ("<about-encoder>", encoder.about.to_owned()),
        ("<encoder>", encoder.written.clone()),
        ("<rows>", ui::units::plural(table.rows, "row")),
        ("<file>", quoted(&file)),
        ("<columns>", guess.columns()),
        ("<labels>", guess.labels()),
        ("<metrics>", guess.metrics()),
    ];
    let text = parts.into_iter().fold(STARTER.to_owned(), |text, (name, value)| text.replace(name, &value));
    Ok((text, guess.choice()))
}

impl InitArgs {
    /// A path as the pipeline will name it: paths are relative to the folder that `bam` runs in, which is not known for a
    /// pipeline written elsewhere.
    fn path(&self, path: &Path) -> Result<PathBuf> {
        if self.folder == Path::new(".") {
            return Ok(path.to_owned());
        }
        std::path::absolute(path).with_context(|| format!("finding `{}`", path.display()))
    }
}

/// The encoder that a new pipeline starts from.
struct Encoder {
    written: String,
    about: &'static str,
    is_there: bool,
}

impl Encoder {
    /// The one that was named; else the default one, in this folder, as installed, or beside the program that was built.
    fn find(args: &InitArgs) -> Result<Self> {
        let found = match &args.encoder {
            Some(named) if named.is_dir() => Some(args.path(named)?),
            Some(named) => {
                let hint = "`--encoder` names a BERT's Hugging Face folder";
                return Err(Fault::new(format!("encoder folder `{}` does not exist", named.display()), hint).into());
            }
            None => Self::default(args)?,
        };
        Ok(match found {
            Some(folder) => Self {
                written: quoted(&folder.to_string_lossy()),
                about: "A BERT's Hugging Face folder, which all trainings start from.",
                is_there: true,
            },
            None => Self {
                written: "path/of/an/encoder".to_owned(),
                about: "TO BE SET: a BERT's Hugging Face folder, which all trainings start from.",
                is_there: false,
            },
        })
    }

    fn default(args: &InitArgs) -> Result<Option<PathBuf>> {
        if Path::new(DEFAULT_ENCODER).is_dir() {
            return Ok(Some(args.path(Path::new(DEFAULT_ENCODER))?));
        }
        let own = std::env::current_exe().context("finding the folder of `bam`")?;
        let folder = own.parent().unwrap_or(Path::new("/"));
        let name = Path::new(DEFAULT_ENCODER).file_name().unwrap_or_default();
        let installed = installed::share().map(|share| share.join("encoders").join(name));
        let places = [installed, Some(folder.join("../..").join(DEFAULT_ENCODER))];
        Ok(places.iter().flatten().find_map(|place| place.canonicalize().ok()))
    }
}
