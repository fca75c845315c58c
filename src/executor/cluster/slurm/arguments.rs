//! The arguments of `sbatch` that stand for what a stage needs. Jobs of which they are the same may go as an array.

use super::super::ask::Ask;
use crate::profile::Settings;
use crate::span::Span;

const GRES: &str = "--gres=";

pub(super) fn of(ask: &Ask, settings: &Settings) -> Vec<String> {
    let mut arguments = vec![
        "--open-mode=append".to_owned(),
        "--input=/dev/null".to_owned(),
        // A job that is lost is submitted anew, with files of its own.
        "--no-requeue".to_owned(),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
        format!("--cpus-per-task={}", ask.cpus),
    ];
    // Else the partition's default holds: a guess at a program would have it killed.
    if ask.is_memory_known {
        arguments.push(format!("--mem={}M", ask.memory_mib()));
    }
    // Of several `sbatch` heeds the last alone.
    let (others, options): (Vec<_>, Vec<_>) = settings.options.iter().partition(|option| option.starts_with(GRES));
    let gpus = (ask.gpus > 0).then(|| format!("gpu:{}", ask.gpus));
    let gres: Vec<String> =
        gpus.into_iter().chain(others.iter().map(|option| option[GRES.len()..].to_owned())).collect();
    if !gres.is_empty() {
        arguments.push(format!("{GRES}{}", gres.join(",")));
    }
    if let Some(Span(time)) = ask.time {
        arguments.push(format!("--time={}", time.as_secs().div_ceil(60)));
    }
    if let Some(Span(grace)) = ask.grace(settings) {
        arguments.push(format!("--signal=B:TERM@{}", grace.as_secs()));
    }
    let partition = settings.limits.get(&ask.kind).and_then(|limit| limit.partition.as_ref());
    let named = [
        ("partition", partition.or(settings.partition.as_ref())),
        ("account", settings.account.as_ref()),
        ("qos", settings.qos.as_ref()),
    ];
    arguments.extend(named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
    arguments.extend(options.into_iter().cloned());
    arguments
}
