//! The closed set of stage kinds: what each reads, what it writes, and its parameters.
//!
//! To add a kind: one variant and one row here, its parameters in `stage/`, one file in `stages/`.

mod anneal;
mod exec;
mod fold;
mod judging;
mod layers;
mod params;
mod train;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::ArtifactKind;
use crate::external::External;
pub use anneal::{Anneal, Hold};
pub use exec::{ExecParams, Stages};
pub use fold::Fold;
pub use judging::{CompareParams, SubmitParams};
pub use layers::Layers;
pub use params::{
    Average, DataParams, EnsembleParams, ExportParams, FEWEST_TOKENS, GrammarRows, GraphPrecision, PredictParams,
    ScoreParams, TokenizeParams,
};
pub use train::{Heads, Keep, Precision, Reduction, RegressionOutput, ScheduleShape, TrainParams, Unfreeze};

/// A stage as a pipeline file gives it: the kind is the key of its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageSpec {
    Data(Box<DataParams>),
    Tokenize(TokenizeParams),
    Train(Box<TrainParams>),
    Predict(PredictParams),
    Ensemble(EnsembleParams),
    Export(ExportParams),
    Score(ScoreParams),
    Compare(CompareParams),
    Submit(SubmitParams),
    Exec(Box<ExecParams>),
}

/// A stage kind's row.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    /// Raised whenever the same key would give another output.
    pub version: u32,
    /// What a stage writes, where its parameters don't say ([`StageSpec::writes`]).
    pub writes: ArtifactKind,
    /// Parameters that name stages or files: their content is hashed, not their spelling.
    pub references: &'static [&'static str],
    pub about: &'static str,
}

/// In data order.
#[rustfmt::skip]
pub static KINDS: &[Kind] = &[
    Kind { name: "data",     version: 3, writes: ArtifactKind::Examples,    references: &["from"],                                  about: "read a task's files, or write a task by grammar" },
    Kind { name: "tokenize", version: 2, writes: ArtifactKind::Tokens,      references: &["examples", "encoder"],                   about: "turn examples into word-piece ids" },
    Kind { name: "train",    version: 4, writes: ArtifactKind::Checkpoint,  references: &["tokens", "teachers", "encoder", "init"], about: "train an encoder with one head per task, with or without teachers" },
    Kind { name: "predict",  version: 3, writes: ArtifactKind::Predictions, references: &["model", "tokens"],                       about: "cache a model's logits for a task's rows" },
    Kind { name: "ensemble", version: 1, writes: ArtifactKind::Predictions, references: &["predictions"],                           about: "average several models' predictions, or join the parts that folds left out" },
    Kind { name: "export",   version: 4, writes: ArtifactKind::OnnxModel,   references: &["model"],                                 about: "write a checkpoint as one ONNX graph with all heads" },
    Kind { name: "score",    version: 7, writes: ArtifactKind::Scores,      references: &["tokens"],                                about: "score models in GLUE's metrics, and hold ONNX variants against their checkpoint" },
    Kind { name: "compare",  version: 5, writes: ArtifactKind::Comparison,  references: &["methods"],                               about: "compare methods over seeds on dev rows, with significance tests" },
    Kind { name: "submit",   version: 1, writes: ArtifactKind::Submission,  references: &["predictions"],                           about: "write test predictions as the zip that GLUE's leaderboard takes" },
    Kind { name: "exec",     version: 1, writes: ArtifactKind::Files,       references: &["inputs", "files"],                       about: "run a program of the user's own" },
];

/// The name of another stage, as written in a pipeline file once `$` and `@*` are resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StageRef(pub String);

impl fmt::Display for StageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An edge of the pipeline: what a stage reads from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its name in the key, such as `tokens.0` or `models.teacher@rte`.
    pub slot: String,
    pub stage: StageRef,
    /// The artifact kinds that fit here.
    pub accepts: &'static [ArtifactKind],
    /// Path of the parameter that holds the reference, for error messages: `["tokens", "0"]`.
    pub at: Vec<String>,
}

impl StageSpec {
    pub fn kind(&self) -> &'static Kind {
        let name = match self {
            Self::Data(_) => "data",
            Self::Tokenize(_) => "tokenize",
            Self::Train(_) => "train",
            Self::Predict(_) => "predict",
            Self::Ensemble(_) => "ensemble",
            Self::Export(_) => "export",
            Self::Score(_) => "score",
            Self::Compare(_) => "compare",
            Self::Submit(_) => "submit",
            Self::Exec(_) => "exec",
        };
        KINDS.iter().find(|kind| kind.name == name).expect("each kind has its row")
    }

    /// What the stage makes.
    pub fn writes(&self) -> ArtifactKind {
        match self {
            Self::Exec(params) => params.writes,
            _ => self.kind().writes,
        }
    }

    /// What the stage reads from other stages.
    pub fn inputs(&self) -> Vec<Input> {
        use ArtifactKind::{Checkpoint, Examples, OnnxModel, Predictions, Tokens};
        match self {
            Self::Data(_) => Vec::new(),
            Self::Tokenize(params) => vec![one("examples", &params.examples, &[Examples])],
            Self::Train(params) => {
                let mut inputs = listed("tokens", &params.tokens, &[Tokens]);
                inputs.extend(listed("teachers", &params.teachers, &[Predictions]));
                inputs.extend(params.init.iter().map(|stage| one("init", stage, &[Checkpoint])));
                inputs
            }
            Self::Predict(params) => {
                vec![one("model", &params.model, &[Checkpoint]), one("tokens", &params.tokens, &[Tokens])]
            }
            Self::Ensemble(params) => listed("predictions", &params.predictions, &[Predictions]),
            Self::Export(params) => vec![one("model", &params.model, &[Checkpoint])],
            Self::Score(params) => {
                let mut inputs = listed("models", &params.models, &[Checkpoint, OnnxModel]);
                for input in &mut inputs {
                    // Scores carry the models' names, so those are part of what is computed.
                    input.slot = format!("models.{}", input.stage);
                }
                inputs.extend(listed("tokens", &params.tokens, &[Tokens]));
                inputs
            }
            Self::Exec(params) => params.inputs(),
            Self::Compare(params) => {
                let of_method = |(method, trials): (&String, &Vec<StageRef>)| {
                    let mut inputs = listed(&format!("methods.{method}"), trials, &[Predictions]);
                    for (index, input) in inputs.iter_mut().enumerate() {
                        input.at = vec!["methods".to_owned(), method.clone(), index.to_string()];
                    }
                    inputs
                };
                params.methods.iter().flat_map(of_method).collect()
            }
            Self::Submit(params) => listed("predictions", &params.predictions, &[Predictions]),
        }
    }

    /// The folder outside the store that the stage reads, and the parameter that names it.
    pub fn folder(&self) -> Option<(&'static str, &Path)> {
        match self {
            Self::Data(params) => Some(("from", params.from.as_deref()?)),
            Self::Tokenize(params) => Some(("encoder", &params.encoder)),
            Self::Train(params) => Some(("encoder", params.encoder.as_deref()?)),
            _ => None,
        }
    }

    /// The same stage with another folder in the place of that one.
    #[must_use]
    pub fn with_folder(mut self, folder: PathBuf) -> Self {
        match &mut self {
            Self::Data(params) => params.from = Some(folder),
            Self::Tokenize(params) => params.encoder = folder,
            Self::Train(params) => params.encoder = Some(folder),
            _ => {}
        }
        self
    }

    /// The files outside the store that the stage reads.
    ///
    /// # Errors
    /// When one that must be there isn't.
    pub fn external(&self) -> Result<Vec<External>> {
        match self {
            Self::Data(params) => params.external(),
            Self::Tokenize(params) => crate::artifact::encoder::tokenizer_files(&params.encoder),
            Self::Train(params) => {
                params.encoder.as_deref().map_or_else(|| Ok(Vec::new()), crate::artifact::encoder::all_files)
            }
            Self::Exec(params) => params.external(),
            Self::Predict(_)
            | Self::Ensemble(_)
            | Self::Export(_)
            | Self::Score(_)
            | Self::Compare(_)
            | Self::Submit(_) => Ok(Vec::new()),
        }
    }

    /// The parameters that are hashed: all, defaults filled in, but for references to stages and
    /// files, whose *content* the key holds instead.
    pub fn key_params(&self) -> Value {
        let Ok(Value::Object(tagged)) = serde_json::to_value(self) else {
            unreachable!("a stage kind serializes to an object of one key");
        };
        let mut params = tagged.into_iter().next().expect("one kind").1;
        if let Value::Object(map) = &mut params {
            map.retain(|name, _| !self.kind().references.contains(&name.as_str()));
        }
        params
    }

    /// What the parameters say wrongly by themselves: the parameter, and a sentence.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Data(params) => params.mistakes(),
            Self::Tokenize(params) => params.mistakes(),
            Self::Train(params) => params.mistakes(),
            Self::Score(params) => params.mistakes(),
            Self::Exec(params) => params.mistakes(),
            Self::Predict(params) => params.mistakes(),
            Self::Ensemble(params) => params.mistakes(),
            Self::Compare(params) => params.mistakes(),
            Self::Submit(params) => params.mistakes(),
            Self::Export(_) => Vec::new(),
        }
    }
}

fn one(slot: &str, stage: &StageRef, accepts: &'static [ArtifactKind]) -> Input {
    Input { slot: slot.to_owned(), stage: stage.clone(), accepts, at: vec![slot.to_owned()] }
}

fn listed(slot: &str, stages: &[StageRef], accepts: &'static [ArtifactKind]) -> Vec<Input> {
    let numbered = |(index, stage): (usize, &StageRef)| Input {
        slot: format!("{slot}.{index}"),
        stage: stage.clone(),
        accepts,
        at: vec![slot.to_owned(), index.to_string()],
    };
    stages.iter().enumerate().map(numbered).collect()
}

/// Takes the default out of a parameter's schema: the pipeline has another for it.
fn without_default(schema: &mut Schema) {
    schema.remove("default");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_kind_as_serde_does() {
        for (json, name) in [
            (r#"{"tokenize": {"examples": "e", "encoder": "d"}}"#, "tokenize"),
            (r#"{"train": {"tokens": ["t"], "encoder": "d"}}"#, "train"),
            (r#"{"predict": {"model": "m", "tokens": "t"}}"#, "predict"),
            (r#"{"ensemble": {"predictions": ["p"]}}"#, "ensemble"),
            (r#"{"export": {"model": "m"}}"#, "export"),
            (r#"{"score": {"models": ["m"], "tokens": ["t"]}}"#, "score"),
            (r#"{"data": {"task": "rte", "from": "glue"}}"#, "data"),
            (r#"{"compare": {"methods": {"a": ["x"], "b": ["y"]}}}"#, "compare"),
            (r#"{"submit": {"predictions": ["p"]}}"#, "submit"),
            (r#"{"exec": {"run": ["sh"]}}"#, "exec"),
        ] {
            assert_eq!(serde_json::from_str::<StageSpec>(json).unwrap().kind().name, name);
        }
    }

    #[test]
    fn references_are_not_hashed_by_their_spelling() {
        let spec: StageSpec = serde_json::from_str(r#"{"train": {"tokens": ["t"], "encoder": "d"}}"#).unwrap();
        let params = spec.key_params();
        assert!(params.get("tokens").is_none() && params.get("encoder").is_none());
        assert_eq!(params["learning_rate"], 5e-5);
    }

    /// What keys held before other parameters came; those are in a key only where they change something.
    #[test]
    fn defaults_of_later_parameters_are_in_no_key() {
        let names = |json: &str| {
            let params = serde_json::from_str::<StageSpec>(json).unwrap().key_params();
            params.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        let train = "anneal batch bias_correction clip_norm epochs keep layer_decay learning_rate precision reduction \
                     regression_output sampling seed warmup weight_decay";
        let expected = train.split_whitespace().map(ToOwned::to_owned).collect();
        assert_eq!(names(r#"{"train": {"tokens": ["t"], "encoder": "d"}}"#), expected);
        assert_eq!(names(r#"{"predict": {"model": "m", "tokens": "t"}}"#), ["precision".to_owned()].into());
    }
}
