//! Whether a cluster has the partitions that a profile names.

use anyhow::Result;
use bam_contract::fault::closest;

use super::super::program::{PATIENCE, ask, words};
use super::controller;
use crate::pipeline::did_you_mean;
use crate::profile::Profile;

/// By `sinfo`; where that says nothing, `sbatch` will. Where a controller is needed that can't be reached, that is an error.
pub(super) fn check(profile: Profile, is_needed: bool) -> Result<()> {
    let Ok(answer) = ask(&words(["sinfo", "--noheader", "--all", "--format=%R"]), PATIENCE) else { return Ok(()) };
    if let Some(trouble) = answer.trouble {
        return if is_needed && controller::is_away(&trouble) { Err(controller::away(trouble).into()) } else { Ok(()) };
    }
    let said = answer.text();
    let known: Vec<&str> = said.split_whitespace().collect();
    let unknown =
        profile.partitions().into_iter().filter(|(name, _)| name.split(',').any(|name| !known.contains(&name)));
    let mistakes: Vec<_> = unknown
        .map(|(name, place)| {
            let hint = closest(name, known.iter().copied()).map(did_you_mean);
            let hint = hint.or_else(|| Some(format!("known: {}", known.join(", "))));
            (place, format!("the cluster has no partition `{name}`"), hint)
        })
        .collect();
    if mistakes.is_empty() { Ok(()) } else { Err(profile.refuse(mistakes).into()) }
}
