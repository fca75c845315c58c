//! A queue by templates: words of the profile's that submit a job, tell how it stands, and cancel it.

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail};
use bam_contract::fault::Fault;

use super::super::Queued;
use super::files::Files;
use super::job::JobId;
use super::program::{Answer, PATIENCE, Words, ask, is_on_path};
use super::queue::{Again, Cancel, Member, Queue, QueueJob, Refusal};
use super::script::quoted;
use crate::profile::{Profile, Templates, fill};

/// Usual words of queues for a job that runs: of PBS and Torque, LSF and SGE.
const RUNS: [&str; 6] = ["R", "RUN", "RUNNING", "Running", "r", "running"];

/// Calls that cancel jobs, at a time.
const SIDE_BY_SIDE: usize = 16;

#[derive(Debug)]
pub(super) struct Template {
    words: Templates,
    /// The folder that jobs run in.
    here: PathBuf,
}

impl Template {
    /// # Errors
    /// When a program that the profile names isn't there.
    pub(super) fn begin(profile: Profile) -> Result<Self> {
        let words = profile.settings.command.clone().context("a checked profile says what to call")?;
        let here = std::env::current_dir().context("finding the current folder")?;
        let calls = words.calls().into_iter().filter_map(|(name, words)| Some((name, words.first()?)));
        let missing: Vec<_> = calls
            .filter(|(_, program)| !is_on_path(program))
            .map(|(name, program)| {
                let place = profile.place_of(&["command", name, "0"]);
                (place, format!("`{program}` is not on the `PATH`"), None)
            })
            .collect();
        if missing.is_empty() { Ok(Self { words, here }) } else { Err(profile.refuse(missing).into()) }
    }
}

impl Queue for Template {
    fn prelude(&self, files: &Files) -> String {
        let [here, said, end] =
            [self.here.clone(), files.said(), files.end()].map(|path| quoted(&path.display().to_string()));
        // Nobody else tells of a script that ends before the worker begins. What is replaced by the worker's call has no such end.
        format!(
            "ended() {{\n  code=$?\n  printf '{{\"trouble\": \"its job ended with exit code %d before the worker did\", \
             \"peak_memory_bytes\": 0, \"wall_secs\": 0.0, \"host\": \"%s\", \"is_signalled\": false}}' $code \"$HOSTNAME\" >{end}.new\n  \
             mv {end}.new {end}\n}}\ntrap ended EXIT\ncd {here}\nexec >>{said} 2>&1 </dev/null\n"
        )
    }

    fn submit(&self, name: &str, members: &[Member<'_>]) -> Result<Vec<JobId>, Refusal> {
        let name = plain(name);
        let submit = |Member { ask: needs, files }: &Member<'_>| -> Result<JobId, Refusal> {
            let [script, log] = [files.script(), files.said()].map(|path| path.display().to_string());
            let [cpus, memory, gpus] =
                [needs.cpus as u64, needs.memory_mib(), needs.gpus as u64].map(|n| n.to_string());
            let call = fill(
                &self.words.submit,
                &[
                    ("name", &name),
                    ("script", &script),
                    ("log", &log),
                    ("cpus", &cpus),
                    ("memory_mib", &memory),
                    ("gpus", &gpus),
                ],
            );
            // One that can't be started has submitted nothing; one that gave no answer may have.
            let answer = ask(&call, PATIENCE).map_err(|error| {
                let again = if error.is::<Fault>() { Again::Never } else { Again::SomeTimes };
                Refusal { error, again }
            })?;
            if let Some(trouble) = answer.trouble {
                return Err(anyhow::Error::from(Fault::new(trouble, "the profile's `submit` is what was run")).into());
            }
            let said = answer.text();
            let id = said.split_whitespace().next_back().and_then(|word| word.parse().ok());
            id.ok_or_else(|| {
                let hint = "the last word that it prints is by what `poll` and `cancel` know the job";
                anyhow::Error::from(Fault::new("`submit` of the profile printed no job", hint)).into()
            })
        };
        members.iter().map(submit).collect()
    }

    fn questions(&self, jobs: &[JobId]) -> Vec<Words> {
        jobs.iter().map(|job| fill(&self.words.poll, &[("job", &job.to_string())])).collect()
    }

    fn read(&self, jobs: &[JobId], answers: &[Answer]) -> Result<Vec<QueueJob>> {
        let is_gone = |answer: &Answer| match &answer.trouble {
            Some(_) => answer.code.is_some_and(|code| self.words.gone_codes.contains(&code)),
            None => self.words.gone.contains(&answer.text()),
        };
        // A queue that is away says of no job that it is gone.
        let mut there = jobs.iter().zip(answers).filter(|(_, answer)| !is_gone(answer)).peekable();
        if there.peek().is_some()
            && let Some(trouble) =
                all(answers.iter().map(|answer| answer.trouble.as_ref().filter(|_| !is_gone(answer))))
        {
            bail!("{trouble}");
        }
        let of = |(job, answer): (&JobId, &Answer)| {
            let (state, reason) = match &answer.trouble {
                Some(trouble) => ("cannot be asked about".to_owned(), Some(trouble.clone())),
                None if answer.text().is_empty() => ("submitted".to_owned(), None),
                None => (state(answer.text()), None),
            };
            let queued = Queued { job: job.clone(), state, reason, node: None };
            QueueJob { queued, ..QueueJob::default() }
        };
        Ok(there.map(of).collect())
    }

    fn tells_names(&self) -> bool {
        false
    }

    fn cancel(&self, jobs: &[JobId], _: Cancel) -> usize {
        let cancel = |job: &JobId| ask(&fill(&self.words.cancel, &[("job", &job.to_string())]), PATIENCE);
        // That a call fails says that its job has ended; that it gives no answer says nothing.
        let count = |jobs: &[JobId]| jobs.iter().filter(|job| cancel(job).is_err()).count();
        thread::scope(|scope| {
            let parts = jobs.chunks(jobs.len().div_ceil(SIDE_BY_SIDE).max(1));
            let parts: Vec<_> = parts.map(|part| scope.spawn(move || count(part))).collect();
            parts.into_iter().map(|part| part.join().unwrap_or_default()).sum()
        })
    }
}

/// The last of them, if all are there.
fn all<'a>(troubles: impl Iterator<Item = Option<&'a String>>) -> Option<&'a String> {
    troubles.reduce(Option::and).flatten()
}

/// A job's name of what every queue allows in one, and no shell acts on. It begins with `bam`, and the attempt in it is no other's.
fn plain(name: &str) -> String {
    let plain = |c: char| match c {
        ':' => '.',
        c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c,
        _ => '_',
    };
    name.chars().map(plain).collect()
}

/// A queue's word for how a job stands, or the usual one where it means that it runs.
fn state(word: String) -> String {
    if RUNS.contains(&word.as_str()) { "running".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn template() -> Template {
        let words = "{ submit: ['{script}'], poll: ['{job}'], cancel: ['{job}'], gone: [finished], gone_codes: [3] }";
        Template { words: serde_yaml::from_str(words).unwrap(), here: PathBuf::new() }
    }

    fn answer(said: &str, code: i32) -> Answer {
        let trouble = (code > 0).then(|| "`poll`: no answer".to_owned());
        Answer { stdout: said.as_bytes().to_vec(), trouble, code: Some(code) }
    }

    /// How the queue says that its jobs stand.
    fn read(answers: &[Answer]) -> Result<Vec<String>> {
        let jobs: Vec<JobId> = (0..answers.len() as u64).map(JobId::from).collect();
        let there = template().read(&jobs, answers)?;
        Ok(there.into_iter().map(|job| format!("{} {}", job.queued.job, job.queued.state)).collect())
    }

    #[test]
    fn only_what_the_profile_says_means_that_a_job_is_gone() {
        assert_eq!(read(&[answer("running", 0), answer("finished", 0)]).unwrap(), ["0 running"]);
        assert_eq!(read(&[answer("running", 0), answer("", 3)]).unwrap(), ["0 running"]);
        assert_eq!(read(&[answer("running", 0), answer("", 1)]).unwrap(), ["0 running", "1 cannot be asked about"]);
        assert_eq!(read(&[answer("", 3), answer("", 3)]).unwrap(), [""; 0]);
        assert!(read(&[answer("", 1), answer("", 1)]).is_err(), "a queue that is away");
        assert_eq!(read(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn words_that_mean_that_a_job_runs_are_one() {
        let said = ["R", "RUNNING", "r", "Q", "hqw"].map(|word| answer(word, 0));
        assert_eq!(read(&said).unwrap(), ["0 running", "1 running", "2 running", "3 Q", "4 hqw"]);
    }

    #[test]
    fn a_job_that_finds_no_folder_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), 1);
        let template = Template { here: folder.path().join("gone"), ..template() };
        let script = format!("set -e\n{}exec true\n", template.prelude(&files));
        assert!(!Command::new("bash").args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success());
        let trouble = files.read_end().and_then(|end| end.trouble);
        assert_eq!(trouble.as_deref(), Some("its job ended with exit code 1 before the worker did"));
    }

    #[test]
    fn names_hold_what_every_queue_allows() {
        assert_eq!(plain("bam:ä b;$(c)@rte+2:f0.x-Q.1"), "bam.__b___c__rte_2.f0.x-Q.1");
    }
}
