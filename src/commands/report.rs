//! `bam report`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::fault::Fault;
use serde_json::Value;

use super::runs::find_run;
use super::status;
use crate::cli::{ReportArgs, ReportFormat};
use crate::pipeline::Pipeline;
use crate::report::{self, Report, Standing};
use crate::store::{Store, read_manifest};
use crate::ui;
use crate::ui::units::plural;

pub(super) fn report(args: &ReportArgs, store: &Store) -> Result<()> {
    let format = format(args)?;
    let (pipeline, standings, of) = match args.of.to_str().and_then(|named| find_run(named, store)) {
        _ if args.of.exists() => as_things_stand(args, store)?,
        Some(run) => of_run(&run, store)?,
        None => {
            let message = format!("no pipeline file and no run `{}`", args.of.display());
            return Err(Fault::new(message, "`bam runs` lists the times that runs started").into());
        }
    };
    let report = report::gather(&pipeline, standings, of, store, !args.no_examples);
    let (text, ending) = match format {
        ReportFormat::Html => (report::html::page(&report), "html"),
        ReportFormat::Markdown => (report::markdown::text(&report), "md"),
        ReportFormat::Csv => (report::csv::table(&report)?, "csv"),
        ReportFormat::Json => (serde_json::to_string_pretty(&report)? + "\n", "json"),
    };
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("report.{ending}")));
    if output == Path::new("-") {
        ui::data(&text);
    } else {
        fs::write(&output, text).with_context(|| format!("writing `{}`", output.display()))?;
        let lacks = match report.missing.len() {
            0 => String::new(),
            lacks if format == ReportFormat::Csv => format!("; {} missing, told by HTML", plural(lacks, "thing")),
            lacks => format!("; {} missing, told at its end", plural(lacks, "thing")),
        };
        ui::story(&format!("wrote `{}`{lacks}", output.display()));
    }
    args.tensorboard.as_ref().map_or(Ok(()), |folder| write_curves(folder, &report, store))
}

/// The format that was asked for; else the one of the file's ending; HTML where there is none.
fn format(args: &ReportArgs) -> Result<ReportFormat> {
    let output = args.output.as_deref();
    let ending = output.and_then(Path::extension).map(|ending| ending.to_string_lossy().to_lowercase());
    match (args.format, ending.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, None | Some("html" | "htm")) => Ok(ReportFormat::Html),
        (None, Some("md")) => Ok(ReportFormat::Markdown),
        (None, Some("csv")) => Ok(ReportFormat::Csv),
        (None, Some("json")) => Ok(ReportFormat::Json),
        (None, Some(_)) => {
            let message = format!("the ending of `{}` tells no format", output.unwrap_or(Path::new("")).display());
            let hint = "known are .html, .htm, .md, .csv and .json; `--format` chooses for any other";
            Err(Fault::new(message, hint).into())
        }
    }
}

fn as_things_stand(args: &ReportArgs, store: &Store) -> Result<(Pipeline, Vec<Standing>, String)> {
    let pipeline = Pipeline::load(&args.of, &args.overrides)?;
    let standings = status::standings(&pipeline, store, None)?.into_iter();
    let standings = standings.map(|found| Standing { state: found.state.to_owned(), manifest: found.manifest });
    let standings = standings.collect();
    Ok((pipeline, standings, format!("{} as things stand", args.of.display())))
}

/// The stages of the run's pipeline file, with what they were in the run.
fn of_run(run: &Value, store: &Store) -> Result<(Pipeline, Vec<Standing>, String)> {
    let strings = |name: &str| {
        let items = run[name].as_array().into_iter().flatten();
        items.filter_map(|item| Some(item.as_str()?.to_owned())).collect::<Vec<String>>()
    };
    let pipeline = Pipeline::load(Path::new(text(run, "pipeline")), &strings("overrides"))?;
    let recorded =
        |name: &str| run["stages"].as_array().into_iter().flatten().find(|stage| text(stage, "stage") == name);
    let standing = |stage: &crate::pipeline::Stage| {
        let record = recorded(&stage.name)?;
        let fingerprint = text(record, "fingerprint").parse::<Fingerprint>().ok();
        let folder = fingerprint.map(|fingerprint| store.folder(stage.spec.kind().name, fingerprint));
        let manifest = folder.and_then(|folder| read_manifest(&folder).ok());
        Some(Standing { state: text(record, "event").to_owned(), manifest })
    };
    let absent = || Standing { state: "not asked for".to_owned(), manifest: None };
    let standings = pipeline.stages.iter().map(|stage| standing(stage).unwrap_or_else(absent)).collect();
    let of = format!("run of {}, {}", text(run, "started"), text(run, "outcome"));
    Ok((pipeline, standings, of))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Event files of all trainings that have a history.
fn write_curves(folder: &Path, report: &Report, store: &Store) -> Result<()> {
    for training in &report.trainings {
        let stage = report.stages.iter().find(|stage| stage.name == training.stage);
        if let Some(manifest) = stage.and_then(|stage| stage.manifest.as_ref()) {
            let checkpoint = store.folder(&manifest.key.kind, manifest.fingerprint);
            report::tensorboard::write(folder, &training.stage, &checkpoint, manifest)?;
        }
    }
    ui::story(&format!("wrote the curves of {} to `{}`", plural(report.trainings.len(), "training"), folder.display()));
    Ok(())
}
