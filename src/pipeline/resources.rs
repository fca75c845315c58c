//! What a stage may use while it runs: `resources: {threads: 1, memory: 2GiB, gpus: 1}`, beside its kind or, for all
//! stages of a kind, at the top of the file. Not part of a stage's key: it changes where and when, not what.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bam_contract::stage::KINDS;
use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use super::draft::did_you_mean;
use super::mistake::Mistakes;
use super::typed::typed;
use crate::span::Span;

/// What a stage may use while it runs. It changes where and when the stage runs, and not what it makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resources {
    /// CPU threads; by default the run's, divided among the stages of the family.
    pub(crate) threads: Option<usize>,
    /// Peak memory; by default what the stage took when it last ran.
    #[serde(default)]
    #[schemars(schema_with = "size")]
    pub(crate) memory: Option<ByteSize>,
    /// Graphics processors, or a share of one, so that several stages have it together; by default one for the kinds that compute
    /// with tensors, where there are any.
    #[schemars(with = "Option<f64>", range(min = 0))]
    pub(crate) gpus: Option<Gpus>,
    /// How long one job of a cluster may take; a training that needs longer goes on in another. By default what the profile says, else the
    /// partition's limit. Here a stage takes the time that it takes.
    pub(crate) time: Option<Span>,
}

/// Graphics processors that a stage is given: whole ones, or a share of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Gpus {
    thousandths: usize,
}

impl Gpus {
    const ONE: usize = 1000;

    pub(crate) fn whole(count: usize) -> Self {
        Self { thousandths: count * Self::ONE }
    }

    /// How many it takes from, and how much of each, in thousandths.
    pub(crate) fn parts(self) -> (usize, usize) {
        match self.thousandths {
            0 => (0, 0),
            share if share < Self::ONE => (1, share),
            whole => (whole / Self::ONE, Self::ONE),
        }
    }
}

impl TryFrom<f64> for Gpus {
    type Error = String;

    fn try_from(count: f64) -> Result<Self, String> {
        let thousandths = count * Self::ONE as f64;
        let is_share = (1.0..Self::ONE as f64).contains(&thousandths);
        let is_whole = (0.0..1e6).contains(&count) && count.fract() == 0.0;
        if is_share || is_whole {
            return Ok(Self { thousandths: thousandths.round() as usize });
        }
        Err(format!("a whole number of GPUs is wanted, or a share of one such as 0.25, and not {count}"))
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.thousandths as f64 / Self::ONE as f64)
    }
}

/// A size as people write it.
fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer", "null"], "minimum": 0, "examples": ["2GiB"] })
}

impl Resources {
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            threads: self.threads.or(other.threads),
            memory: self.memory.or(other.memory),
            gpus: self.gpus.or(other.gpus),
            time: self.time.or(other.time),
        }
    }
}

/// Resources of each kind of stage, from the top of the file.
pub(super) fn of_kinds(draft: &[(String, Value)], mistakes: &mut Mistakes) -> BTreeMap<String, Resources> {
    let mut of_kinds = BTreeMap::new();
    for (kind, value) in draft {
        let path = vec!["resources".to_owned(), kind.clone()];
        if !KINDS.iter().any(|known| known.name == kind) {
            let near = bam_contract::fault::closest(kind, KINDS.iter().map(|known| known.name));
            let place = mistakes.source.key(&path);
            mistakes.add(place, format!("`resources` names `{kind}`, which is no stage kind"), near.map(did_you_mean));
            continue;
        }
        of_kinds.insert(kind.clone(), read(value, &path, mistakes));
    }
    of_kinds
}

/// Resources of a stage: its own, else its kind's.
pub(super) fn of_stage(
    written: &str,
    kind: &str,
    own: Option<&Value>,
    of_kinds: &BTreeMap<String, Resources>,
    mistakes: &mut Mistakes,
) -> Resources {
    let path = ["stages", written, "resources"].map(ToOwned::to_owned).to_vec();
    let own = own.map(|value| read(value, &path, mistakes)).unwrap_or_default();
    own.or(of_kinds.get(kind).copied().unwrap_or_default())
}

fn read(value: &Value, path: &[String], mistakes: &mut Mistakes) -> Resources {
    let (resources, flaws) = typed::<Resources>(value.clone());
    for flaw in flaws {
        let at = [path, &flaw.path].concat();
        let place = if flaw.in_name { mistakes.source.key(&at) } else { mistakes.source.value(&at) };
        // What a profile calls so is another thing to those who run stages here.
        let is_cpus = flaw.in_name && flaw.path.last().is_some_and(|name| name == "cpus");
        let hint = if is_cpus { Some("did you mean `threads`?".to_owned()) } else { flaw.hint.clone() };
        mistakes.add(place, flaw.message(&format!("`{}`", path.join("."))), hint);
    }
    let resources: Resources = resources.unwrap_or_default();
    let mut refuse = |entry: &str, message: &str| {
        let place = mistakes.source.value(&[path, &[entry.to_owned()]].concat());
        mistakes.add(place, message, None);
    };
    if resources.threads == Some(0) {
        refuse("threads", "a stage needs at least 1 thread");
    }
    if resources.time.is_some_and(|Span(time)| time < Duration::from_mins(1)) {
        refuse("time", "a job needs at least 1 minute");
    }
    resources
}
