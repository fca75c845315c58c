//! `bam export`.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;
use k8s_openapi::api::batch::v1::Job;

use super::plan::decide;
use super::remote::remote;
use crate::cli::{Export, K8sArgs};
use crate::hub::Hub;
use crate::k8s::{Frame, gather, legal, number};
use crate::pipeline::{Pipeline, Stage};
use crate::plan::Decision;
use crate::profile::Profile;
use crate::store::Store;
use crate::ui;
use crate::ui::units::plural;

/// How each file begins: only such are exchanged.
const MARK: &str = "# Written by `bam export k8s`; untested on a live cluster.";

/// Where no profile says how long a training may take to keep its state.
const GRACE: Duration = Duration::from_mins(2);

pub(super) fn export(to: &Export, store: &Store) -> Result<()> {
    match to {
        Export::K8s(args) => k8s(args, store),
    }
}

fn k8s(args: &K8sArgs, store: &Store) -> Result<()> {
    let hub = Hub::from_env(args.offline.offline);
    let pipeline = Pipeline::load_with(&args.source.pipeline, &args.source.overrides, &hub)?;
    let pipeline = pipeline.only(&args.targets, false)?;
    let profile = args.profile.as_deref().map(Profile::load).transpose()?;
    let project = env::current_dir().context("finding the folder that bam runs in")?;
    let settings = profile.as_ref().map(|profile| &profile.settings);
    let frame = Frame {
        image: &args.image,
        namespace: args.namespace.as_deref(),
        claim: &args.claim,
        sub_path: args.sub_path.as_deref(),
        mount_path: &args.mount_path,
        pipeline: &pipeline.name,
        file: &within(&project, &pipeline.file, "the pipeline file")?,
        options: options(args, store, &project)?,
        environment: settings.map(|settings| settings.environment.clone()).unwrap_or_default(),
        grace: settings.map_or(GRACE, |settings| settings.grace.0),
        retries: args.retries,
    };
    let remote = remote(&args.source.remote, &pipeline, args.offline.offline, store)?;
    let plan = decide(&pipeline, store, remote.as_ref(), BTreeSet::new())?;
    let is_there = |decision: &Decision| matches!(decision, Decision::Cached(_) | Decision::Remote { .. });
    let runs: Vec<bool> = plan.decisions.iter().map(|decision| args.all || !is_there(decision)).collect();
    let waves = gather(&pipeline, &plan, &runs, &frame, profile.as_ref(), &mut store.load_digests())?;
    let texts = waves.iter().enumerate().map(|(at, jobs)| text(&pipeline.name, at + 1, waves.len(), jobs));
    let texts = texts.collect::<Result<Vec<String>>>()?;
    let to_stdout = args.output == Path::new("-");
    let paths = if to_stdout { Vec::new() } else { write(&args.output, &texts)? };
    if to_stdout {
        ui::data(&texts.concat());
    }
    let left_out = runs.iter().filter(|runs| !**runs).count();
    if waves.is_empty() {
        ui::story(&format!(
            "nothing to run: {}, all there; `--all` makes jobs for them too",
            plural(left_out, "stage")
        ));
        return Ok(());
    }
    warn_of_absent(&project, pipeline.stages.iter().zip(&runs).filter(|(_, runs)| **runs).map(|(stage, _)| stage));
    tell(args, &pipeline.name, &waves, &paths, left_out);
    Ok(())
}

/// Tells what was written, and what `kubectl` is to be told; without `paths` it went to standard output.
fn tell(args: &K8sArgs, pipeline: &str, waves: &[Vec<Job>], paths: &[PathBuf], left_out: usize) {
    let jobs = plural(waves.iter().map(Vec::len).sum(), "job");
    let where_to = if paths.is_empty() { String::new() } else { format!(" to `{}`", args.output.display()) };
    let left_out = match left_out {
        0 => String::new(),
        count => format!("; {} left out, which need no run", plural(count, "stage")),
    };
    let count = plural(waves.len(), "wave");
    ui::story(&format!("wrote {jobs} in {count}{where_to}, untested on a live cluster{left_out}"));
    ui::story("apply each wave once the one before it is complete:\n");
    let namespace = args.namespace.as_ref().map(|name| format!(" -n {name}")).unwrap_or_default();
    for wave in 1..=waves.len() {
        let (apply, wait) = if let Some(path) = paths.get(wave - 1) {
            (format!("-f {}", path.display()), format!("-f {}", path.display()))
        } else {
            let (label, pipeline) = (format!("bam/wave={}", number(wave)), legal(pipeline));
            (format!("-l {label} -f FILE"), format!("job -l bam/pipeline={pipeline},{label}{namespace}"))
        };
        ui::story(&format!("  kubectl apply {apply} && kubectl wait --for=condition=complete --timeout=-1s {wait}"));
    }
}

/// Options by which `bam run` there means what is meant here.
fn options(args: &K8sArgs, store: &Store, project: &Path) -> Result<Vec<String>> {
    let root = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let artifacts = within(project, &root, "the store")?;
    let artifacts = (artifacts != "artifacts").then(|| format!("--artifacts={artifacts}"));
    let remote = args.source.remote.remote.iter().map(|remote| format!("--remote={remote}"));
    let overrides = args.source.overrides.iter().map(|change| format!("--set={change}"));
    Ok(artifacts.into_iter().chain(remote).chain(overrides).collect())
}

/// A path from the folder of the project, which is all that containers have of it.
fn within(project: &Path, path: &Path, what: &str) -> Result<String> {
    let inside = path.strip_prefix(project).ok().and_then(Path::to_str);
    let inside = inside.filter(|inside| !inside.is_empty() && inside.split('/').all(|part| part != ".."));
    inside.map(ToOwned::to_owned).ok_or_else(|| {
        let (path, project) = (path.display(), project.display());
        let message = format!("{what}, `{path}`, does not lie below `{project}`, the folder that containers are given");
        Fault::new(message, "run `bam export` in the folder that holds both, or name it with `-C DIR`").into()
    })
}

/// Tells of files that stages read and that do not lie in the folder of the project.
fn warn_of_absent<'a>(project: &Path, stages: impl Iterator<Item = &'a Stage>) {
    let own = stages.filter(|stage| stage.repository.is_none()).flat_map(|stage| &stage.externals);
    let paths: BTreeSet<&Path> = own.map(|file| file.path.as_path()).collect();
    let is_there = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path.starts_with(project));
    let absent: Vec<&Path> = paths.into_iter().filter(|path| !is_there(path)).collect();
    if let [first, more @ ..] = absent.as_slice() {
        let more = if more.is_empty() { String::new() } else { format!(" and {}", plural(more.len(), "more file")) };
        let message = format!("`{}`{more}, which stages read, will not be in the volume", first.display());
        ui::error::warn(&Fault::new(message, "the image must have it at the same path").into());
    }
}

/// A wave's file.
fn text(pipeline: &str, wave: usize, of: usize, jobs: &[Job]) -> Result<String> {
    let mut text = format!("{MARK}\n# Wave {wave} of {of} of the pipeline {pipeline:?}.\n");
    for job in jobs {
        text += &format!("---\n{}", serde_yaml::to_string(job)?);
    }
    Ok(text)
}

/// Writes the waves' files in the place of those that were written before.
fn write(folder: &Path, texts: &[String]) -> Result<Vec<PathBuf>> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_wave = entry.file_name().to_str().is_some_and(|name| name.starts_with("wave-"));
        if is_wave && fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with(MARK)) {
            fs::remove_file(entry.path()).with_context(|| format!("removing `{}`", entry.path().display()))?;
        }
    }
    let mut paths = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let path = folder.join(format!("wave-{}.yaml", number(at + 1)));
        fs::create_dir_all(folder)
            .and_then(|()| File::create_new(&path)?.write_all(text.as_bytes()))
            .with_context(|| format!("writing `{}`", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}
