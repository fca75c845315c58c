//! A tiny random BERT, exported and run, against what `PyTorch` computed.

use std::fs;

use bam_contract::artifact::FINGERPRINT;
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::encoder::{CONFIG, WEIGHTS, check_tokenizer, tokenizer_digest};
use bam_contract::artifact::onnx::{CHECKPOINT, GRAPH, INPUTS, PRECISION, TASKS};
use bam_contract::artifact::tokens::TokenizerInfo;
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::fault::hint_of;
use bam_contract::stage::{GraphPrecision, RegressionOutput};
use bam_contract::task::TaskSpec;
use prost::Message;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::fixture::{Export, floats, inputs, nli_and_sim, reference, row_of};
use super::proto::{FLOAT, TensorProto};

const TOLERANCE: f32 = 1e-5;

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() < TOLERANCE, "{actual} is not {expected}");
    }
}

#[test]
fn logits_are_those_of_pytorch() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    assert_eq!(export.run().unwrap(), "2 heads, fp32, 0.2 MB");
    let (reference, mut session) = (reference(), export.session());
    let reference = SafeTensors::deserialize(&reference).unwrap();
    for task in ["nli", "sim"] {
        let logits = session.run(&inputs(&reference), task).unwrap();
        assert_close(&logits, &floats(&reference, &format!("logits.{task}")));
    }
}

#[test]
fn a_row_alone_has_the_logits_that_it_has_beside_longer_ones() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run().unwrap();
    let (reference, mut session) = (reference(), export.session());
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let padded = inputs(&reference);
    let expected = floats(&reference, "logits.nli");
    for row in 0..padded.rows {
        let logits = session.run(&row_of(&padded, row), "nli").unwrap();
        assert_close(&logits, &expected[row * 3..(row + 1) * 3]);
    }
}

#[test]
fn a_single_head_may_end_in_a_sigmoid() {
    let export = Export::of(nli_and_sim().split_off(1), RegressionOutput::Sigmoid);
    assert_eq!(export.run().unwrap(), "1 head, fp32, 0.2 MB");
    let (reference, mut session) = (reference(), export.session());
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let expected: Vec<f32> = floats(&reference, "logits.sim").iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    assert_close(&session.run(&inputs(&reference), "sim").unwrap(), &expected);
}

#[test]
fn every_activation_runs() {
    let reference = reference();
    let padded = inputs(&SafeTensors::deserialize(&reference).unwrap());
    for activation in ["gelu_new", "gelu_pytorch_tanh", "relu", "tanh"] {
        let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
        export.set_config("hidden_act", &format!("{activation:?}"));
        export.run().unwrap();
        let logits = export.session().run(&padded, "nli").unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()), "{activation}");
    }
}

#[test]
fn the_artifact_says_what_it_is() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run().unwrap();
    let properties = export.proto().metadata_props;
    let property = |key: &str| properties.iter().find(|entry| entry.key == key).unwrap().value.clone();
    assert_eq!(property(FINGERPRINT), Fingerprint::of("export").to_string());
    assert_eq!(property(CHECKPOINT), Digest::of(b"").to_string());
    assert_eq!(serde_json::from_str::<Vec<TaskSpec>>(&property(TASKS)).unwrap(), nli_and_sim());
    assert_eq!(property(PRECISION), "fp32");
    let fingerprint = Fingerprint::of("export");
    let tokenizer = Some(tokenizer_digest(&export.model()).unwrap());
    let expected = ModelInfo { fingerprint, precision: Some(GraphPrecision::Fp32), tokenizer, ..export.info.clone() };
    assert_eq!(ModelInfo::read(&export.output()).unwrap(), expected);
    for name in ["tokenizer.json", "vocab.txt", CONFIG] {
        assert_eq!(fs::read(export.output().join(name)).unwrap(), fs::read(export.model().join(name)).unwrap());
    }
}

#[test]
fn the_tokenizer_of_an_export_knows_the_models_limit() {
    let mut export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.info.max_tokens = 8;
    export.info.write(&export.model()).unwrap();
    let settings = || -> Value {
        serde_json::from_slice(&fs::read(export.output().join("tokenizer_config.json")).unwrap()).unwrap()
    };
    let own = export.model().join("tokenizer_config.json");
    let mut expected: Value = serde_json::from_slice(&fs::read(&own).unwrap()).unwrap();
    assert_ne!(expected["model_max_length"], 8);
    export.run().unwrap();
    expected["model_max_length"] = json!(8);
    assert_eq!(settings(), expected);

    // A vocabulary alone, whose settings say which tokenizer it is: rows of the checkpoint's still fit.
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::remove_file(export.model().join(name)).unwrap();
        fs::remove_file(export.output().join(name)).unwrap();
    }
    export.run().unwrap();
    assert_eq!(settings(), json!({ "model_max_length": 8 }));
    let digest = tokenizer_digest(&export.model()).unwrap();
    let rows = TokenizerInfo { digest, vocabulary_size: 1, max_tokens: 8, pad_id: 0 };
    check_tokenizer(&export.output(), &rows, "tokens").unwrap();
}

#[test]
fn the_file_is_the_message_that_it_was_written_from() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run().unwrap();
    let (bytes, graph) = (fs::read(export.output().join(GRAPH)).unwrap(), export.proto().graph.unwrap());
    export.run().unwrap();
    assert_eq!(bytes, fs::read(export.output().join(GRAPH)).unwrap());
    assert_eq!(export.proto().encoded_len(), bytes.len());
    assert_eq!(graph.input.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), INPUTS);
    let reference = reference();
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let head = graph.initializer.iter().find(|tensor| tensor.name == "heads.nli.weight").unwrap();
    let expected = TensorProto {
        dims: vec![3, 32],
        data_type: FLOAT,
        name: "heads.nli.weight".to_owned(),
        raw_data: reference.tensor("heads.nli.weight").unwrap().data().to_vec(),
    };
    assert_eq!(*head, expected);
    let stored = fs::read(export.model().join(WEIGHTS)).unwrap();
    for name in SafeTensors::deserialize(&stored).unwrap().names() {
        assert_eq!(graph.initializer.iter().filter(|tensor| tensor.name == name).count(), 1, "{name}");
    }
}

#[test]
fn an_unknown_activation_is_named() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.set_config("hidden_act", "\"silu\"");
    let error = export.run().unwrap_err();
    assert_eq!(error.to_string(), "the encoder's activation `silu` has no ONNX form here");
    assert_eq!(
        hint_of(&error),
        Some("`hidden_act` in config.json can be gelu, gelu_new, gelu_pytorch_tanh, relu or tanh")
    );
}

#[test]
fn a_missing_tensor_is_named() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.write_weights(|name| name != "heads.sim.bias");
    assert_eq!(export.run().unwrap_err().to_string(), "the checkpoint has no tensor `heads.sim.bias`");
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.set_config("intermediate_size", "48");
    assert_eq!(
        export.run().unwrap_err().to_string(),
        "tensor `bert.encoder.layer.0.intermediate.dense.weight` is F32 of shape [64, 32], \
         where float32 of shape [48, 32] is needed"
    );
}

#[test]
fn a_zero_survives_in_an_attribute() {
    let attribute = super::graph::int("axis", 0);
    let back = super::proto::AttributeProto::decode(attribute.encode_to_vec().as_slice()).unwrap();
    assert_eq!(back.i, Some(0));
}
