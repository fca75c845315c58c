//! `bam show`.

mod rows;

use std::path::{Path, PathBuf};

use anyhow::Result;
use bam_contract::artifact::ArtifactKind;
use bam_contract::artifact::comparison::Comparison;
use bam_contract::artifact::scores::Scores;
use bam_contract::fault::{Fault, closest};
use bam_contract::manifest::Manifest;
use serde_json::{Value, json};

use crate::cli::ShowArgs;
use crate::reason::differences;
use crate::store::{Found, Store, read_manifest};
use crate::ui;
use crate::ui::table::{Align, Table};
use crate::ui::units::{ago, bytes, duration, plural};

/// Fewest digits of a fingerprint that name an artifact.
const FEWEST_DIGITS: usize = 4;

pub(super) fn show(args: &ShowArgs, store: &Store) -> Result<()> {
    let (folder, manifest) = find(&args.artifact, store)?;
    if let Some(other) = &args.other {
        let (_, other) = find(other, store)?;
        print_differences(&manifest, &other, args.json);
    } else if args.json {
        let mut value = serde_json::to_value(&manifest)?;
        value["path"] = json!(folder);
        value["damaged"] = json!(damage(&folder, &manifest, store));
        ui::json::line(&value);
    } else {
        ui::data(&explain(&folder, &manifest, args.rows, store));
    }
    Ok(())
}

/// The artifact that a stage's name, the start of a fingerprint, or a path means.
pub(super) fn find(named: &str, store: &Store) -> Result<(PathBuf, Manifest)> {
    match store.latest(named) {
        Some((fingerprint, Some(manifest))) => {
            return Ok((store.folder(&manifest.key.kind, fingerprint), manifest));
        }
        Some((fingerprint, None)) => {
            let message = format!("the artifact of `{named}` ({}) is gone or damaged", fingerprint.short());
            return Err(Fault::new(message, "`bam run` makes it again").into());
        }
        None => {}
    }
    let path = Path::new(named);
    if path.exists() {
        let path = std::path::absolute(path)?.canonicalize()?;
        if let Some(found) = path.ancestors().find_map(|folder| Some((folder.to_owned(), read_manifest(folder).ok()?)))
        {
            return Ok(found);
        }
        let is_pipeline = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let hint = if is_pipeline {
            "name a stage alone, as in `bam show student`: the store knows it by that"
        } else {
            "name a stage that ran, the start of a fingerprint, or a path in the store"
        };
        return Err(Fault::new(format!("`{named}` is not in an artifact"), hint).into());
    }
    let all = store.all();
    let is_prefix = named.len() >= FEWEST_DIGITS && named.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = |manifest: &Manifest| is_prefix && manifest.fingerprint.to_string().starts_with(&named.to_lowercase());
    let mut fitting = all.iter().filter(|(_, manifest)| fits(manifest)).cloned();
    match (fitting.next(), fitting.next()) {
        (Some(found), None) => Ok(found),
        (Some((_, one)), Some((_, other))) => {
            let hint =
                format!("it may be {} ({}) or {} ({})", one.fingerprint, one.stage, other.fingerprint, other.stage);
            Err(Fault::new(format!("`{named}` names more than one artifact"), hint).into())
        }
        (None, _) => {
            let hint = match closest(named, all.iter().map(|(_, manifest)| manifest.stage.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a stage that ran, the start of a fingerprint, or a path in the store; `bam pull` brings what only \
                         the remote has"
                    .to_owned(),
            };
            Err(Fault::new(format!("no artifact `{named}`"), hint).into())
        }
    }
}

fn print_differences(old: &Manifest, new: &Manifest, as_json: bool) {
    let reasons = differences(&old.key, &new.key, &|_| None, &|_| None);
    if as_json {
        ui::json::line(&reasons);
    } else if reasons.is_empty() {
        ui::data("the same key: one computation\n");
    } else {
        let names =
            format!("{} ({}) → {} ({})\n", old.stage, old.fingerprint.short(), new.stage, new.fingerprint.short());
        let lines: String = reasons.iter().map(|reason| format!("  {reason}\n")).collect();
        ui::data(&(names + &lines));
    }
}

fn explain(folder: &Path, manifest: &Manifest, rows: usize, store: &Store) -> String {
    let made = &manifest.provenance;
    let mut facts: Vec<(&str, String)> = vec![
        ("stage", format!("{} ({}, version {})", manifest.stage, manifest.key.kind, manifest.key.version)),
        ("summary", manifest.summary.clone()),
        ("fingerprint", manifest.fingerprint.to_string()),
        ("content", manifest.content.to_string()),
        ("folder", store.shown(folder).display().to_string()),
        (
            "made",
            format!(
                "{}, in {}, peak memory {}, {}, {} on {}, bam {}",
                ago(made.finished_unix_secs),
                duration(made.wall_secs),
                bytes(made.peak_memory_bytes),
                plural(made.threads, "thread"),
                made.device,
                made.host,
                made.bam_version,
            ),
        ),
    ];
    let damage = damage(folder, manifest, store);
    facts.extend(damage.map(|how| ("damaged", format!("{how}; `bam run` makes it again"))));
    facts.extend(made.git_revision.clone().map(|revision| ("revision", revision)));
    facts.extend((!made.worker.is_empty()).then(|| ("worker", inline(&Value::Object(made.worker.clone())))));
    let mut text: String = facts.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();

    text += "\nmade from\n";
    let origin = |digest| {
        let made_by = store.all().into_iter().find(|(_, other)| other.content == digest);
        made_by.map_or_else(String::new, |(_, other)| format!("{} ({})", other.stage, other.fingerprint.short()))
    };
    for (slot, digest) in &manifest.key.inputs {
        text += &format!("  input {slot}: {} {}\n", &digest.to_string()[..8], origin(*digest));
    }
    for (slot, digest) in &manifest.key.external {
        text += &format!("  file {slot}: {}\n", &digest.to_string()[..8]);
    }
    for (name, value) in manifest.key.params.as_object().into_iter().flatten() {
        text += &format!("  param {name}: {}\n", inline(value));
    }

    text += "\n";
    let mut files = Table::new([("FILE", Align::Left), ("SIZE", Align::Right), ("BLAKE3", Align::Left)]);
    for (name, entry) in &manifest.files {
        files.row([name, &bytes(entry.size_bytes), &entry.digest.to_string()]);
    }
    text += &files.render();

    if !manifest.metrics.is_empty() {
        text += "\nmetrics\n";
        for (name, value) in &manifest.metrics {
            text += &format!("  {name}: {value}\n");
        }
    }
    let result = match manifest.artifact {
        ArtifactKind::Scores => Scores::read(folder).ok().map(|scores| ui::scores::tables(&scores)),
        ArtifactKind::Comparison => Comparison::read(folder).ok().map(|found| ui::comparison::tables(&found)),
        _ => None,
    };
    text += &result.map(|table| format!("\n{table}")).unwrap_or_default();
    for name in manifest.files.keys() {
        match rows::preview(&folder.join(name), rows) {
            None => {}
            Some(Ok(preview)) => text += &format!("\n{name}: {preview}"),
            Some(Err(error)) => text += &format!("\n{name}: cannot be read: {error:#}\n"),
        }
    }
    text
}

/// In what way an artifact of the store is not what was committed, if in any.
fn damage(folder: &Path, manifest: &Manifest, store: &Store) -> Option<String> {
    let (kind, fingerprint) = (&manifest.key.kind, manifest.fingerprint);
    if folder != store.folder(kind, fingerprint) {
        return None;
    }
    match store.find(kind, fingerprint) {
        Ok(Found::Damaged(how)) => Some(how),
        Ok(Found::Absent | Found::Sound(_)) => None,
        Err(error) => Some(format!("{error:#}")),
    }
}

/// A value on one line, without the quotes of a lone text.
fn inline(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
