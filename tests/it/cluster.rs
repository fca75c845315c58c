//! Stages as jobs of a cluster: against a Slurm of one node that the tests start themselves, where it is installed, and against
//! programs that stand in for Slurm's when it is to misbehave.

mod faults;
mod lasting;
mod profile;
mod slurm;
mod work;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Said, Sandbox, said};
use slurm::Slurm;

/// A profile for a Slurm that answers at once; more lines follow.
const PROFILE: &str = "\
executor: slurm
partition: main
poll: 1s
limits:
  train: { memory: 100MiB }
";

/// A sandbox whose stages are jobs of a Slurm.
struct Cluster {
    sandbox: Sandbox,
    settings: PathBuf,
}

impl Cluster {
    /// On the Slurm that tests share, with these lines added to the profile; nothing where there is none.
    fn shared(profile: &str) -> Option<Self> {
        Some(Self::on(Slurm::shared()?, profile))
    }

    fn on(settings: PathBuf, profile: &str) -> Self {
        let sandbox = Sandbox::with_small_pipeline();
        sandbox.write("cluster.yaml", &format!("{PROFILE}{profile}"));
        Self { sandbox, settings }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(args);
        command.env("SLURM_CONF", &self.settings).env_remove("BAM_JOBS");
        command
    }

    /// `bam run` with the profile.
    fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(&[&["run", "--profile", "cluster.yaml"], args].concat()))
    }

    /// The same, under way.
    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(&[&["run", "--profile", "cluster.yaml"], args].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bam starts")
    }

    /// The jobs of this sandbox that Slurm knows of, in the order of their numbers.
    fn jobs(&self) -> Vec<Value> {
        let artifacts = self.sandbox.path("artifacts").display().to_string();
        let is_own = |job: &Value| job["standard_output"].as_str().is_some_and(|path| path.starts_with(&artifacts));
        let mut jobs: Vec<Value> = slurm::jobs(&self.settings).into_iter().filter(is_own).collect();
        jobs.sort_by_key(|job| job["job_id"].as_u64());
        jobs
    }

    /// And those of a stage: state by state.
    fn states(&self, stage: &str) -> Vec<String> {
        let name = format!("bam:{stage}:");
        let jobs = self.jobs();
        let own = jobs.iter().filter(|job| job["name"].as_str().is_some_and(|is| is.starts_with(&name)));
        own.map(|job| job["job_state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn slurm(&self, program: &str, args: &[&str]) -> String {
        slurm::said(&self.settings, program, args)
    }
}

/// What a child said on standard error, and its exit code.
fn ended(child: Child) -> (String, Option<i32>) {
    let output = child.wait_with_output().expect("it was started");
    (String::from_utf8(output.stderr).expect("UTF-8"), output.status.code())
}
