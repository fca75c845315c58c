//! Parameters of the kinds that judge models by their predictions: `compare` and `submit`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageRef;
use crate::artifact::submission::SHEETS;
use crate::fault::closest;

/// Parameters of `compare`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareParams {
    /// Dev predictions of each method's trials, by the method's name. The nth predictions of a task are its nth trial.
    pub methods: BTreeMap<String, Vec<StageRef>>,
    /// The method that the others are held against; by default all pairs are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Draws of the paired bootstrap over dev rows.
    #[serde(default = "resamples")]
    pub resamples: usize,
    /// Seed of the draws.
    #[serde(default)]
    pub seed: u64,
}

fn resamples() -> usize {
    1000
}

impl CompareParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if self.methods.len() < 2 {
            mistakes.push(("methods", "needs at least two methods".to_owned()));
        }
        for (method, _) in self.methods.iter().filter(|(_, trials)| trials.is_empty()) {
            mistakes.push(("methods", format!("method `{method}` has no predictions")));
        }
        // Slots of the key are `methods.<method>.<number>`.
        for method in self.methods.keys().filter(|method| method.is_empty() || method.contains('.')) {
            mistakes.push(("methods", format!("`{method}` is no name for a method: give it letters, and no `.`")));
        }
        if let Some(baseline) = self.baseline.as_ref().filter(|name| !self.methods.contains_key(*name)) {
            let known: Vec<&str> = self.methods.keys().map(String::as_str).collect();
            mistakes.push(("baseline", format!("`{baseline}` is none of the methods {}", known.join(", "))));
        }
        if self.resamples < 100 {
            mistakes.push(("resamples", "a 95% interval needs at least 100".to_owned()));
        }
        mistakes
    }
}

/// Parameters of `submit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitParams {
    /// Predictions of GLUE's test sets, one per task; those of `ax` are made by a model of `mnli`.
    pub predictions: Vec<StageRef>,
    /// Tasks that get one constant answer, as the leaderboard's sample submission does, because no model was trained.
    /// `wnli` gets its majority class without being named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filler: Vec<String>,
}

impl SubmitParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let known = || SHEETS.iter().map(|sheet| sheet.task);
        let unknown = self.filler.iter().filter(|task| !known().any(|name| name == task.as_str()));
        let say = |task: &String| match closest(task, known()) {
            Some(near) => format!("no task `{task}` on the leaderboard; did you mean `{near}`?"),
            None => format!("no task `{task}` on the leaderboard"),
        };
        unknown.map(|task| ("filler", say(task))).collect()
    }
}
