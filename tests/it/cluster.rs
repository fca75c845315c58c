//! Stages as jobs of a cluster: against a Slurm of one node that the tests start themselves, where it is installed, and against
//! programs that stand in for Slurm's when it is to misbehave.

mod adoption;
mod arrays;
mod command;
mod faults;
mod inputs;
mod interrupt;
mod lasting;
mod profile;
mod room;
mod slurm;
mod users;
mod work;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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
        before_others(&mut command, &self.sandbox);
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

/// A program that stands in for one of a queue's in a sandbox's folder `bin`.
fn stand_in(sandbox: &Sandbox, program: &str, script: &str) {
    let name = format!("bin/{program}");
    sandbox.write(&name, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(sandbox.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Programs of the folder `bin` are found before all others.
fn before_others(command: &mut Command, sandbox: &Sandbox) {
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", sandbox.path("bin").display()));
}

/// Without Slurm, a sandbox and stand-ins of which `sbatch` runs the job at once, and the queue says what it is told to.
fn of_stand_ins(squeue: &str) -> Sandbox {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("cluster.yaml", "executor: slurm\npoll: 1s\n");
    stand_in(&sandbox, "sbatch", "for script; do :; done\nbash \"$script\" >/dev/null 2>&1 &\necho 7");
    stand_in(&sandbox, "squeue", squeue);
    stand_in(&sandbox, "scancel", "");
    stand_in(&sandbox, "sacct", "exit 1");
    stand_in(&sandbox, "sinfo", "exit 1");
    stand_in(&sandbox, "scontrol", "exit 1");
    sandbox
}

/// `bam run` of a stage, or of a family of them, with stand-ins.
fn run_with_stand_ins(sandbox: &Sandbox, stage: &str) -> Said {
    let mut command = sandbox.command(&["run", "--profile", "cluster.yaml", "pipeline.yaml", stage]);
    before_others(&mut command, sandbox);
    said(command.env_remove("BAM_JOBS"))
}

/// The queue has the job that was submitted last, and says this of its state.
const LISTED: &str = r#"echo asked >> asked; test -f name || exec echo '{"jobs": []}'
echo "{\"jobs\": [{\"job_id\": 7, \"name\": \"$(cat name)\", \"job_state\": \"$(cat state)\", \"nodes\": \"n1\"}]}""#;

/// Notes the call and the job's name, for `sbatch`.
const TAKES: &str = "echo tried >> tried
for word; do case $word in --job-name=*) echo \"${word#--job-name=}\" > name;; esac; done";

/// `bam run` of a stage with stand-ins, under way.
fn start_with_stand_ins(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = sandbox.command(&[&["run", "--profile", "cluster.yaml", "pipeline.yaml"], args].concat());
    before_others(&mut command, sandbox);
    command.env_remove("BAM_JOBS").stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("bam starts")
}

/// What a child said on standard error, and its exit code.
fn ended(child: Child) -> (String, Option<i32>) {
    let output = child.wait_with_output().expect("it was started");
    (String::from_utf8(output.stderr).expect("UTF-8"), output.status.code())
}
