//! One file per command: what it does, between the arguments and the terminal.

mod export;
mod fetch;
mod gc;
mod graph;
mod init;
mod log;
mod model;
mod plan;
mod predict;
mod pull;
mod push;
mod remote;
mod report;
mod run;
mod runs;
mod serve;
mod show;
mod signals;
mod status;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use bam_contract::fault::Fault;
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::store::Store;
use crate::{pipeline, profile, ui};

pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    if let Some(directory) = &cli.directory {
        std::env::set_current_dir(directory).map_err(|error| {
            Fault::new(format!("cannot change to `{}`: {error}", directory.display()), "`-C` names an existing folder")
        })?;
    }
    let store = Store::open(&cli.artifacts)?;
    match cli.command {
        Command::Run(args) => run::run(&args, &store),
        Command::Plan(args) => plan::plan(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Push(args) => push::push(&args, &store),
        Command::Pull(args) => pull::pull(&args, &store),
        Command::Status(args) => status::status(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Show(args) => show::show(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Log(args) => log::log(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Runs(args) => runs::runs(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Report(args) => report::report(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::verify(&args, &store),
        Command::Gc(args) => gc::gc(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Predict(args) => predict::predict(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => serve::serve(&args, &store).map(|never| match never {}),
        Command::Init(args) => init::init(&args).map(|()| ExitCode::SUCCESS),
        Command::Graph(args) => graph::graph(&args, &store).map(|()| ExitCode::SUCCESS),
        Command::Export { to } => export::export(&to, &store).map(|()| ExitCode::SUCCESS),
        Command::Schema { profile: of_profiles, markdown } => {
            let schema = if of_profiles { profile::schema() } else { pipeline::schema() };
            ui::data(&if markdown { pipeline::reference(&schema) } else { format!("{schema:#}\n") });
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bam", &mut script);
            ui::data(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    }
}
