//! Slurm as a queue: `sbatch`, `squeue --json`, `scancel`, and `sacct` where accounts are kept.

mod arguments;
mod arrays;
mod controller;
mod listing;
mod partitions;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bam_contract::fault::Fault;

use super::ask::Ask;
use super::files::write_whole;
use super::job::JobId;
use super::program::{Answer, PATIENCE, Words, ask, is_on_path, words};
use super::queue::{Again, Cancel, Member, Queue, QueueJob, Refusal, is_end};
use super::script;
use crate::profile::{Profile, Settings};

/// Its programs that are used.
const PROGRAMS: [&str; 3] = ["sbatch", "squeue", "scancel"];

/// A part of the names of limits to a user's jobs in the queue, which leave it in time.
const QUEUE_FULL: &str = "SubmitJob";

#[derive(Debug)]
pub(super) struct Slurm {
    settings: Settings,
    /// The folder that jobs run in.
    here: PathBuf,
    /// Most members of an array.
    most: usize,
}

impl Slurm {
    /// # Errors
    /// When Slurm isn't there, or has no such partitions.
    pub(super) fn begin(profile: Profile, settings: Settings) -> Result<Self> {
        if let Some(missing) = PROGRAMS.into_iter().find(|program| !is_on_path(program)) {
            let hint =
                "run `bam` where jobs are submitted, a login node mostly, or without `--profile` to run stages here";
            return Err(Fault::new(format!("`{missing}` is not on the `PATH`: no Slurm here"), hint).into());
        }
        partitions::check(profile, true)?;
        let here = std::env::current_dir().context("finding the current folder")?;
        Ok(Self { settings, here, most: arrays::most_members() })
    }

    fn sbatch(&self, name: &str, members: &[Member<'_>]) -> Result<Vec<JobId>> {
        let [first, ..] = members else { return Ok(Vec::new()) };
        let is_array = members.len() > 1;
        let (script, said) = if is_array {
            let script = first.files.array_script();
            let text = script::of_array(members.iter().map(|member| &member.files));
            write_whole(&script, text.as_bytes()).context("writing the script of an array")?;
            (script, first.files.said_of_array("%a"))
        } else {
            (first.files.script(), first.files.said())
        };
        // What stands for something in the names of folders is meant literally.
        let (folder, file) = (said.parent().unwrap_or(&self.here), said.file_name().unwrap_or_default().display());
        let output = format!("{}/{file}", folder.display().to_string().replace('%', "%%"));
        let mut call = words(["sbatch", "--parsable"]);
        call.extend([format!("--job-name={name}"), format!("--chdir={}", self.here.display())]);
        call.push(format!("--output={output}"));
        if is_array {
            call.push(format!("--array=0-{}", members.len() - 1));
        }
        call.extend(arguments::of(first.ask, &self.settings));
        call.push(script.display().to_string());
        let answer = ask(&call, PATIENCE)?;
        if let Some(trouble) = answer.trouble {
            if controller::is_silent(&trouble) && !trouble.contains(QUEUE_FULL) {
                return Err(controller::away(trouble).into());
            }
            let hint = "the profile's `partition`, `account`, `qos`, `limits` and `options` are what it is asked for";
            return Err(Fault::new(trouble, hint).into());
        }
        // `7`, or `7;cluster`, after whatever a site's wrapper has to say.
        let said = answer.text();
        let last = said.lines().next_back().unwrap_or_default().trim();
        let number = last.split(';').next().and_then(|number| number.parse::<u64>().ok());
        let number = number
            .ok_or_else(|| Fault::new(format!("`sbatch` named no job, but said: {said}"), "is it Slurm's own?"))?;
        let members = 0..members.len() as u64;
        Ok(if is_array { members.map(|index| JobId::member(number, index)).collect() } else { vec![number.into()] })
    }
}

impl Queue for Slurm {
    /// Those that ask for the same go as an array.
    fn divide(&self, asks: &[&Ask]) -> Vec<Vec<usize>> {
        let (mut alike, mut submissions) = (HashMap::new(), Vec::<Vec<usize>>::new());
        for (at, ask) in asks.iter().enumerate() {
            let open = alike.entry((&ask.kind, arguments::of(ask, &self.settings))).or_insert(usize::MAX);
            if let Some(members) = submissions.get_mut(*open).filter(|members| members.len() < self.most) {
                members.push(at);
            } else {
                *open = submissions.len();
                submissions.push(vec![at]);
            }
        }
        submissions
    }

    fn submit(&self, name: &str, members: &[Member<'_>]) -> Result<Vec<JobId>, Refusal> {
        self.sbatch(name, members).map_err(|error| {
            let text = format!("{error:#}");
            let again = match text {
                text if text.contains(QUEUE_FULL) => Again::UntilThereIsRoom,
                text if controller::is_out_of_reach(&text) => Again::WhenItIsBack,
                text if controller::is_silent(&text) => Again::SomeTimes,
                _ => Again::Never,
            };
            Refusal { error, again }
        })
    }

    fn questions(&self, _: &[JobId]) -> Vec<Words> {
        vec![words(listing::QUESTION)]
    }

    fn read(&self, _: &[JobId], answers: &[Answer]) -> Result<Vec<QueueJob>> {
        read(answers)
    }

    fn question_of_accounts(&self, jobs: &[JobId]) -> Option<Words> {
        let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
        let mut call = words(["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State"]);
        call.push(format!("--jobs={}", jobs.join(",")));
        Some(call)
    }

    fn read_accounts(&self, answer: &Answer) -> BTreeMap<JobId, String> {
        let of = |line: &str| -> Option<(JobId, String)> {
            let (job, state) = line.split_once('|')?;
            // `CANCELLED by 1000`
            let state = state.split_whitespace().next().filter(|state| is_end(state))?;
            Some((job.parse().ok()?, state.to_owned()))
        };
        answer.text().lines().filter_map(of).collect()
    }

    fn cancel(&self, jobs: &[JobId], how: Cancel) -> usize {
        let scancel = |options: &[&str]| {
            let options = options.iter().map(|option| (*option).to_owned());
            let call = words(["scancel", "--quiet"]).into_iter().chain(options);
            let answer = ask(&call.chain(jobs.iter().map(ToString::to_string)).collect::<Words>(), PATIENCE);
            // That it fails otherwise says that one of them has ended.
            let trouble = answer.map_or_else(|error| Some(error.to_string()), |answer| answer.trouble);
            !trouble.is_some_and(|trouble| controller::is_silent(&trouble))
        };
        let is_passed_on = match how {
            Cancel::AtOnce => scancel(&[]),
            Cancel::Soon => scancel(&["--state=PENDING"]) && scancel(&["--batch", "--signal=TERM"]),
        };
        if is_passed_on { 0 } else { jobs.len() }
    }
}

/// Whether a cluster that is there, and answers, has what a profile names.
pub(super) fn check(profile: Profile) -> Result<()> {
    if is_on_path("sinfo") { partitions::check(profile, false) } else { Ok(()) }
}

/// All of the user's jobs, asked for now, by who doesn't want to wait.
pub(super) fn all_jobs(patience: Duration) -> Result<Vec<QueueJob>> {
    read(&[ask(&words(listing::QUESTION), patience)?])
}

fn read(answers: &[Answer]) -> Result<Vec<QueueJob>> {
    let [answer] = answers else { unreachable!("one question has one answer") };
    match &answer.trouble {
        Some(trouble) => Err(anyhow::anyhow!("{trouble}")),
        None => listing::read(&answer.stdout),
    }
}
