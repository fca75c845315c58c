//! ONNX models of a checkpoint that bears int8, and of one that doesn't.

use bam_contract::artifact::encoder::tokenizer_digest;
use bam_contract::artifact::scores::{Loss, Variant};
use bam_contract::artifact::tokens::{TokenizerInfo, TokensWriter};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::hint_of;
use bam_contract::stage::{GraphPrecision, RegressionOutput, StageSpec};
use serde_json::json;

use super::*;
use crate::onnx::fixture::{Export, nli_and_sim};

/// A channel of the attention that is as large as it is of no use: its weights in the layer after it are 0. Bytes that
/// hold it have no steps left for the others.
fn ruin(export: &Export) {
    export.change_weights("attention.self.value.bias", |values, _| values[0] = 3_000.0);
    export.change_weights("attention.output.dense.weight", |values, columns| {
        values.chunks_mut(columns).for_each(|row| row[0] = 0.0);
    });
}

/// Dev rows of `sim` whose values are what the checkpoint answers.
fn write_rows(export: &Export, folder: &Path) {
    let mut rows = TokenRows::default();
    for row in 0..24_u32 {
        let length = 3 + (row * 5) % 11;
        let ids: Vec<u32> = (0..length).map(|place| 5 + (row * 37 + place * 101) % 250).collect();
        rows.push(i64::from(row), false, None, &ids, &vec![0; ids.len()], 0);
    }
    let task = nli_and_sim().remove(1);
    let (model, _) = Model::open(&export.model(), Precision::Fp32, tch::Device::Cpu).unwrap();
    let logits = infer::logits(&model, 1, &rows, 0, &Crew::alone(), |_| {});
    rows.labels = logits.iter().map(|logit| Some(task.prediction(&[*logit]))).collect();
    let tokenizer = TokenizerInfo {
        digest: tokenizer_digest(&export.model()).unwrap(),
        vocabulary_size: 300,
        max_tokens: 24,
        pad_id: 0,
    };
    let mut writer = TokensWriter::create(folder, Split::Dev, &task, &tokenizer, Fingerprint::of("rows")).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
}

/// The stage on one exported model, and what it wrote.
fn score(export: &Export, precision: GraphPrecision, max_drop: f64) -> (Result<Outcome>, Result<Scores>) {
    export.run_as(precision).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [tokens, output] = ["tokens", "output"].map(|name| folder.path().join(name));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::create_dir(&output).unwrap();
    write_rows(export, &tokens);
    let params = json!({ "models": ["onnx"], "tokens": ["tokens"], "max_drop": max_drop });
    let params: ScoreParams = serde_json::from_value(params).unwrap();
    let input = |slot: &str, stage: &str, path: PathBuf| JobInput {
        slot: slot.to_owned(),
        stage: stage.to_owned(),
        path,
        digest: Digest::of(b""),
    };
    let job = Job {
        stage: "scores".to_owned(),
        pipeline: PathBuf::new(),
        fingerprint: Fingerprint::of("scores"),
        spec: StageSpec::Score(params.clone()),
        inputs: vec![
            input("models.onnx", "onnx", export.output()),
            input("reference.onnx", "student", export.model()),
            input("tokens.0", "tokens", tokens),
        ],
        output: output.clone(),
        resume: PathBuf::new(),
        threads: 1,
        device: "cpu".to_owned(),
    };
    (run(&params, &job, &Reporter::default()), Scores::read(&output))
}

#[test]
fn variants_of_a_sound_checkpoint_lose_little_and_are_told() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    for precision in [GraphPrecision::Fp32, GraphPrecision::Fp16, GraphPrecision::Int8] {
        let (outcome, scores) = score(&export, precision, 5.0);
        let (summary, scores) = (outcome.unwrap().summary, scores.unwrap());
        assert_eq!(scores.variants.len(), 1);
        let variant = &scores.variants[0];
        assert_eq!((variant.model.as_str(), variant.precision), ("onnx", Some(precision)));
        assert!(variant.bytes > 0 && scores.rows_per_second["onnx"] > 0.0);
        assert_eq!(variant.losses.len(), 1);
        assert!(variant.losses[0].points().abs() <= 5.0, "{:?}", variant.losses);
        assert_eq!(scores.exact_differences().count(), usize::from(precision == GraphPrecision::Fp32));
        let ending = if precision == GraphPrecision::Fp32 { " of libtorch" } else { " points lost" };
        assert!(summary.starts_with("1 model on 1 dev set, ") && summary.ends_with(ending), "{summary}");
    }
}

/// Rounding reorders answers that are nearly alike; logits tell whether they are a checkpoint's own.
#[test]
fn a_graph_that_must_answer_as_its_checkpoint_does_is_judged_by_its_logits_alone() {
    let with = |precision| {
        let loss = Loss {
            task: "sim".to_owned(),
            split: Split::Dev,
            rows: 24,
            metric: Metric::Spearman,
            values: [0.06, -0.12],
        };
        let variant = Variant { model: "onnx".to_owned(), precision, bytes: 1, losses: vec![loss] };
        Scores { variants: vec![variant], ..Scores::default() }
    };
    for precision in [Some(GraphPrecision::Fp32), None] {
        assert!(variant::check_losses(&with(precision), 1.0).is_ok(), "{precision:?}");
    }
    for precision in [GraphPrecision::Fp16, GraphPrecision::Int8] {
        assert!(variant::check_losses(&with(Some(precision)), 1.0).is_err(), "{precision:?}");
    }
}

#[test]
fn each_model_and_task_that_lost_too_much_is_named() {
    use GraphPrecision::{Fp16, Int8};
    let loss = |task: &str, after| Loss {
        task: task.to_owned(),
        split: Split::Dev,
        rows: 24,
        metric: Metric::Accuracy,
        values: [0.9, after],
    };
    let variant = |model: &str, precision, losses| Variant {
        model: model.to_owned(),
        precision: Some(precision),
        bytes: 1,
        losses,
    };
    let variants = vec![
        variant("half", Fp16, vec![loss("nli", 0.86), loss("sim", 0.9)]),
        variant("small", Int8, vec![loss("nli", 0.5), loss("sim", f64::NAN)]),
    ];
    let error = variant::check_losses(&Scores { variants, ..Scores::default() }, 2.5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "too much is lost against the checkpoint, where 2.5 is allowed: \
         `small` loses NaN points of accuracy on `sim` (90.0 → NaN, 24 rows); \
         `small` loses 40.0 points of accuracy on `nli` (90.0 → 50.0, 24 rows); \
         `half` loses 4.0 points of accuracy on `nli` (90.0 → 86.0, 24 rows)"
    );
}

#[test]
fn equal_answers_are_told() {
    let tasks = nli_and_sim();
    let nli = |logits: [[f32; 3]; 2]| sameness(&tasks[0], Split::Dev, &logits.concat());
    let sim = |logits: &[f32]| sameness(&tasks[1], Split::Dev, logits);
    let told = nli([[0.0, 2.0, 1.0], [1.0, 3.0, 0.0]]).unwrap();
    assert!(told.starts_with("answers all 2 dev rows of `nli` with `"), "{told}");
    assert_eq!(nli([[0.0, 2.0, 1.0], [4.0, 3.0, 0.0]]), None);
    let told = sim(&[0.5, 0.5 + 1e-6]).unwrap();
    assert!(told.starts_with("answers all 2 dev rows of `sim` alike, within "), "{told}");
    assert_eq!((sim(&[0.5, 0.6]), sim(&[0.5])), (None, None));
}

#[test]
fn a_head_that_int8_ruins_fails_by_name_and_only_there() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    ruin(&export);
    for precision in [GraphPrecision::Fp32, GraphPrecision::Fp16] {
        score(&export, precision, 1.0).0.unwrap();
    }
    let (outcome, scores) = score(&export, GraphPrecision::Int8, 1.0);
    let error = outcome.unwrap_err();
    let text = error.to_string();
    let start = "too much is lost against the checkpoint, where 1 is allowed: `onnx` loses ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains(" points of pearson on `sim` (100.0 → ") && text.ends_with(", 24 rows)"), "{text}");
    assert_eq!(hint_of(&error), Some("export it with another `precision`, or raise `max_drop` if that is no matter"));
    assert!(scores.is_err(), "nothing is written");

    let (outcome, scores) = score(&export, GraphPrecision::Int8, 200.0);
    outcome.unwrap();
    let lost = scores.unwrap().variants[0].losses[0].points();
    assert!(lost > 10.0, "{lost}");
}
