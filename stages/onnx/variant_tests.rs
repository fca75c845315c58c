//! Every precision of a tiny random BERT in ONNX Runtime, and the whole numbers of int8 where they are largest.

use bam_contract::artifact::onnx::{GRAPH, INPUTS, Probes};
use bam_contract::stage::{GraphPrecision, RegressionOutput};
use bam_inference::model::OnnxModel;
use bam_inference::padding::Padded;
use bam_inference::session::OnnxSession;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

use super::bert::Bert;
use super::fixture::{Export, fixtures, floats, inputs, nli_and_sim, reference, row_of};
use super::graph::Graph;
use super::proto::{FLOAT, FLOAT16, INT8};
use crate::encoder::BertConfig;

/// How far answers may be from the checkpoint's; the fixture's logits are up to 2.
const PRECISIONS: [(GraphPrecision, f32); 3] =
    [(GraphPrecision::Fp32, 1e-5), (GraphPrecision::Fp16, 5e-3), (GraphPrecision::Int8, 0.3)];

fn exported(precision: GraphPrecision) -> Export {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.run_as(precision).unwrap();
    export
}

/// Rows of unequal lengths together, and each alone.
#[test]
fn every_precision_answers_nearly_as_pytorch_does() {
    let reference = reference();
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let padded = inputs(&reference);
    for (precision, tolerance) in PRECISIONS {
        let mut session = exported(precision).session();
        for (task, outputs) in [("nli", 3), ("sim", 1)] {
            let expected = floats(&reference, &format!("logits.{task}"));
            let near = |answers: &[f32], expected: &[f32]| {
                assert_eq!(answers.len(), expected.len());
                for (answer, expected) in answers.iter().zip(expected) {
                    assert!((answer - expected).abs() <= tolerance, "{precision} {task}: {answer} is not {expected}");
                }
            };
            near(&session.run(&padded, task).unwrap(), &expected);
            for row in 0..padded.rows {
                let alone = session.run(&row_of(&padded, row), task).unwrap();
                near(&alone, &expected[row * outputs..(row + 1) * outputs]);
            }
        }
    }
}

#[test]
fn a_variant_is_smaller_names_its_precision_and_keeps_heads_and_norms_as_they_are() {
    let files = PRECISIONS.map(|(precision, _)| exported(precision));
    let sizes = files.each_ref().map(|export| export.output().join(GRAPH).metadata().unwrap().len());
    assert!(sizes[1] < sizes[0] * 2 / 3 && sizes[2] < sizes[1], "{sizes:?}");
    for (export, ((precision, _), form)) in files.iter().zip(PRECISIONS.into_iter().zip([FLOAT, FLOAT16, INT8])) {
        let properties = export.proto().metadata_props;
        let named = properties.iter().find(|entry| entry.key == "bam.precision").unwrap();
        assert_eq!(named.value, precision.to_string());
        for tensor in export.proto().graph.unwrap().initializer {
            let narrow = tensor.name.starts_with("bert.")
                && (tensor.name.ends_with("dense.weight")
                    || tensor.name.contains(".self.") && tensor.name.ends_with(".weight")
                    || tensor.name.ends_with("word_embeddings.weight"))
                && !tensor.name.contains("pooler");
            if matches!(tensor.name.rsplit('.').next(), Some("weight" | "bias")) {
                assert_eq!(tensor.data_type, if narrow { form } else { FLOAT }, "{}", tensor.name);
            }
        }
    }
}

/// What is asked when the model is loaded fits what it is.
#[test]
fn probes_carry_a_tolerance_that_the_variant_keeps() {
    for (precision, _) in PRECISIONS {
        let export = exported(precision);
        let probes = Probes::read(&export.output()).unwrap().unwrap();
        let model = OnnxModel::open(&export.output()).unwrap();
        assert_eq!(model.info.precision, Some(precision));
        assert_eq!(model.test(&mut export.session()).unwrap(), probes.rows.len());
        let difference = model.greatest_difference(&mut export.session(), &probes.rows).unwrap();
        let expected = if precision == GraphPrecision::Fp32 { 1e-3 } else { (4.0 * difference).max(1e-3) };
        assert!((probes.tolerance - expected).abs() < 1e-6, "{precision}: {} is not {expected}", probes.tolerance);
    }
}

#[test]
fn a_checkpoint_without_finite_answers_is_not_exported() {
    let export = Export::of(nli_and_sim(), RegressionOutput::Linear);
    export.change_weights("heads.nli.weight", |values, _| values[0] = f32::NAN);
    for (precision, _) in PRECISIONS {
        let error = export.run_as(precision).unwrap_err().to_string();
        assert_eq!(error, "the exported graph's answers differ from its checkpoint's by NaN");
    }
}

/// Every byte of the input is 255 or 0, every weight the greatest or the least: a kernel that adds two products in 16 bits
/// would cut these sums off, if weights had all of their 8 bits.
#[test]
fn products_of_the_greatest_numbers_are_exact() {
    const INPUTS_OF_LAYER: usize = 64;
    let weights: [fn(usize) -> f32; 4] = [
        |_| 1.0,
        |_| -1.0,
        |column| if column % 2 == 0 { 1.0 } else { -1.0 },
        |column| if column < 2 { 0.5 } else { 0.0 },
    ];
    let weight: Vec<f32> = weights.iter().flat_map(|weight| (0..INPUTS_OF_LAYER).map(weight)).collect();
    let bytes: Vec<u8> = weight.iter().flat_map(|value| value.to_le_bytes()).collect();
    let zeros = [0; 4 * 4];
    let checkpoint = serialize(
        [
            ("layer.weight", TensorView::new(Dtype::F32, vec![4, INPUTS_OF_LAYER], &bytes).unwrap()),
            ("layer.bias", TensorView::new(Dtype::F32, vec![4], &zeros).unwrap()),
        ],
        None,
    )
    .unwrap();
    let checkpoint = SafeTensors::deserialize(&checkpoint).unwrap();
    let config = BertConfig::read(&fixtures().join("tiny-bert")).unwrap();
    let mut bert = Bert { config: &config, precision: GraphPrecision::Int8, graph: Graph::new("layer", &checkpoint) };
    for input in INPUTS {
        bert.graph.input(input);
    }
    let x = bert.cast("input_ids", "x", FLOAT);
    let made = bert.linear(&x, "layer", INPUTS_OF_LAYER, 4).unwrap();
    bert.graph.output(&made, 4);
    let folder = tempfile::tempdir().unwrap();
    bert.graph.write(&[], &mut std::fs::File::create(folder.path().join(GRAPH)).unwrap()).unwrap();

    let patterns: [fn(usize) -> i64; 3] =
        [|_| 255, |column| if column % 2 == 0 { 255 } else { 0 }, |column| if column < 32 { 255 } else { 0 }];
    let input_ids: Vec<i64> = patterns.iter().flat_map(|value| (0..INPUTS_OF_LAYER).map(value)).collect();
    let blank = vec![0; input_ids.len()];
    let rows = Padded {
        rows: patterns.len(),
        length: INPUTS_OF_LAYER,
        input_ids: input_ids.clone(),
        token_type_ids: blank.clone(),
        attention_mask: blank,
    };
    let answers = OnnxSession::open(folder.path(), 1).unwrap().run(&rows, "layer").unwrap();
    for (row, x) in input_ids.chunks(INPUTS_OF_LAYER).enumerate() {
        for (output, of_output) in weight.chunks(INPUTS_OF_LAYER).enumerate() {
            let exact: f32 = x.iter().zip(of_output).map(|(x, weight)| *x as f32 * weight).sum();
            let answer = answers[row * weights.len() + output];
            assert!(
                (answer - exact).abs() <= exact.abs() * 1e-6,
                "row {row}, output {output}: {answer} is not {exact}"
            );
        }
    }
}
