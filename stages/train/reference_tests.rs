//! Loss, gradients and updates of the training step against `PyTorch`'s, from the artifacts a `train` stage reads.

use std::collections::BTreeMap;

use bam_contract::stage::Precision;
use serde_json::json;
use tch::{Device, Kind};

use super::gradients::Gradients;
use super::setting::{GOLD_SHARE, Setting};
use super::words::BatchWords;
use super::*;
use crate::encoder::device::upload;
use crate::encoder::reference::gpu;

/// The script's `LEARNING_RATE` and `STEPS`.
const LEARNING_RATE: f64 = 1e-2;
const STEPS: usize = 3;

/// The gradient of each parameter, by its name.
fn by_parameter(model: &Model, gradients: &Gradients) -> BTreeMap<String, Tensor> {
    let mut named = BTreeMap::new();
    let mut parameters = model.parameters.iter();
    let words = parameters.next().unwrap();
    let index = upload(gradients.words.ids(), model.device);
    named.insert(
        words.name.clone(),
        words.tensor.zeros_like().index_copy_(0, &index, gradients.words_ud.as_ref().unwrap()),
    );
    for (leaf, gradient) in model.leaves.iter().zip(&gradients.leaves) {
        let gradient = gradient.as_ref().unwrap_or_else(|| panic!("`{}` has no gradient", leaf.name));
        assert_eq!(gradient.size(), leaf.master.size());
    }
    // A leaf's parameters lie one after the other, in the order of the model's.
    let mut rows = 0;
    let mut leaf = 0;
    for parameter in parameters {
        let (count, gradient) = (parameter.tensor.size()[0], gradients.leaves[leaf].as_ref().unwrap());
        named.insert(parameter.name.clone(), gradient.narrow(0, rows, count));
        rows += count;
        if rows == gradient.size()[0] {
            (rows, leaf) = (0, leaf + 1);
        }
    }
    named
}

#[test]
fn loss_and_every_gradient_equal_pytorchs() {
    let setting = Setting::new(false, &json!({"reduction": "sum"}));
    let model = setting.reference.model(Precision::Fp32);
    // The reference's loss is a mean over the rows, for each task.
    let rows = setting.set.task(0).rows.len() as f64;
    let (loss, gradients) = setting.loss_and_gradients(&model, 0.0);
    // Relative, as of any sum in fp32: processors round its parts in different orders.
    let ratio = loss / rows / setting.reference.get("loss").double_value(&[]);
    assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
    let named = by_parameter(&model, &gradients);
    for (name, gradient) in &named {
        setting.reference.assert_near(&format!("grad.{name}"), &(gradient / rows), 1e-5);
    }
    let dumped = setting.reference.tensors.keys().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(named.len(), model.parameters.len(), "every parameter has a gradient");
    assert_eq!(named.len(), dumped, "every gradient of the reference is compared");
}

/// The same, each row in a batch of its own: a head whose task the row isn't of has no gradient.
#[test]
fn gradients_of_single_rows_add_up_to_pytorchs() {
    let setting = Setting::new(false, &json!({"reduction": "sum"}));
    let model = setting.reference.model(Precision::Fp32);
    let words = word_ids(&setting.set.read(setting.batch()).unwrap(), setting.set.pad_id());
    let of_row = |draw| setting.of_draws(&model, vec![draw], &words, &Setting::at(0.0)).1;
    let summed = setting.batch().into_iter().map(of_row).reduce(Gradients::plus).unwrap();
    let rows = setting.set.task(0).rows.len() as f64;
    for (name, gradient) in by_parameter(&model, &summed) {
        setting.reference.assert_near(&format!("grad.{name}"), &(gradient / rows), 1e-5);
    }
}

/// By direction and length, over all parameters.
#[test]
fn gradients_in_bf16_are_near_pytorchs_in_fp32() {
    let setting = Setting::new(false, &json!({"reduction": "sum"}));
    let model = setting.reference.model(Precision::Bf16);
    let named = by_parameter(&model, &setting.loss_and_gradients(&model, 0.0).1);
    let joined = |tensors: Vec<&Tensor>| {
        Tensor::cat(&tensors.iter().map(|tensor| tensor.to_kind(Kind::Double).flatten(0, -1)).collect::<Vec<_>>(), 0)
    };
    let ours = joined(named.values().collect()) / setting.set.task(0).rows.len() as f64;
    let theirs = joined(named.keys().map(|name| setting.reference.get(&format!("grad.{name}"))).collect());
    let cosine = (ours.dot(&theirs) / (ours.norm() * theirs.norm())).double_value(&[]);
    let ratio = (ours.norm() / theirs.norm()).double_value(&[]);
    assert!(cosine > 0.99 && (ratio - 1.0).abs() < 0.02, "cosine {cosine}, {ratio} of the length");
}

#[test]
fn a_mixed_target_has_pytorchs_loss_and_gradients() {
    let setting = Setting::new(true, &json!({"reduction": "mean"}));
    let model = setting.reference.model(Precision::Fp32);
    let (loss, gradients) = setting.loss_and_gradients(&model, GOLD_SHARE);
    assert!((loss - setting.reference.get("distilled.loss").double_value(&[])).abs() < 1e-6);
    let norm = gradients.norm().double_value(&[]);
    assert!((norm / setting.reference.get("distilled.gradient_norm").double_value(&[]) - 1.0).abs() < 1e-5);
    let named = by_parameter(&model, &gradients);
    let heads: Vec<_> = named.iter().filter(|(name, _)| name.starts_with("heads.")).collect();
    assert_eq!(heads.len(), 4);
    for (name, gradient) in heads {
        setting.reference.assert_near(&format!("distilled.grad.{name}"), gradient, 1e-5);
    }
}

/// Clipping, weight decay of some parameters, layer-wise rates, and moments with and without bias correction.
#[test]
fn updates_equal_pytorchs() {
    for (kind, bias_correction) in [("corrected.", true), ("plain.", false)] {
        let more = json!({"bias_correction": bias_correction, "layer_decay": 0.9, "weight_decay": 0.01});
        let setting = Setting::new(true, &more);
        let mut model = setting.reference.model(Precision::Fp32);
        let mut optimizer = AdamW::new(&model, &setting.params);
        for _ in 0..STEPS {
            let (_, gradients) = setting.loss_and_gradients(&model, GOLD_SHARE);
            let norm = gradients.norm();
            optimizer.step(&mut model, &gradients, LEARNING_RATE, &norm);
        }
        optimizer.settle(&mut model);
        let watched: Vec<_> = setting.reference.tensors.keys().filter_map(|name| name.strip_prefix(kind)).collect();
        assert_eq!(watched.len(), 7);
        for name in watched {
            let parameter = model.parameters.iter().find(|parameter| parameter.name == name).unwrap();
            let difference = (&parameter.tensor - setting.reference.get(&format!("{kind}{name}"))).abs();
            // Adam divides by a gradient's own size, so that the rounding of the smallest ones counts in full, and other
            // processors round otherwise. A decay left out or a wrong layer's rate moves weights all over.
            let mean = difference.mean(Kind::Float).double_value(&[]) / LEARNING_RATE;
            let most = difference.max().double_value(&[]) / LEARNING_RATE;
            assert!(mean < 5e-5 && most < 5e-3, "`{kind}{name}`: {mean:e} of a rate on average, {most:e} at most");
        }
    }
}

/// The update that a GPU makes, here on the CPU: with bias correction and without, with frozen layers, clipped or not. Copies in bf16
/// are brought up to their masters by both.
#[test]
fn all_leaves_at_once_equal_one_by_one() {
    for (bias_correction, least_depth, clip) in [(true, 0, 1.0), (false, 0, 1.0), (true, 3, 1.0), (true, 0, 1e9)] {
        let more =
            json!({"bias_correction": bias_correction, "layer_decay": 0.9, "weight_decay": 0.1, "clip_norm": clip});
        let setting = Setting::new(true, &more);
        let run = |at_once: bool| {
            let mut model = setting.reference.model(Precision::Bf16);
            let mut optimizer = AdamW::new(&model, &setting.params);
            let words = word_ids(&setting.set.read(setting.batch()).unwrap(), setting.set.pad_id());
            for seed in 0..3 {
                let conditions = Conditions { progress: GOLD_SHARE, least_depth, dropout: Some(seed) };
                if !at_once {
                    optimizer.catch_up(&mut model, &words);
                }
                let (_, gradients) = setting.loss_and_gradients_under(&model, &conditions);
                optimizer.step_either_way(at_once, &mut model, &gradients, 1e-4, &gradients.norm());
            }
            if !at_once {
                optimizer.settle(&mut model);
            }
            for leaf in &model.leaves {
                assert_eq!(leaf.used.detach(), leaf.master.to_kind(leaf.used.kind()), "`{}`", leaf.name);
            }
            let weights = model.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.tensor.copy()));
            let moments = optimizer.moments(&model).map(|(name, moment)| (name, moment.copy()));
            weights.chain(moments).collect::<Vec<_>>()
        };
        for ((name, one), (_, other)) in run(true).into_iter().zip(run(false)) {
            let scale = other.abs().max().double_value(&[]).max(1e-12);
            let difference = (one - other).abs().max().double_value(&[]) / scale;
            assert!(difference < 1e-4, "`{name}` differs by {difference:e} of its greatest element");
        }
    }
}

/// With dropout and in several passes, with all layers and with some of them frozen.
#[test]
fn a_layer_computed_again_has_the_same_gradients() {
    for (precision, least_depth, pass_tokens) in
        [(Precision::Fp32, 0, 20), (Precision::Bf16, 0, 8192), (Precision::Fp32, 2, 8192), (Precision::Fp32, 5, 20)]
    {
        let gradients = |recompute: bool| {
            let setting = Setting::new(true, &json!({"recompute": recompute, "pass_tokens": pass_tokens}));
            let mut model = setting.reference.model(precision);
            model.config.hidden_dropout_prob = 0.1;
            model.config.attention_probs_dropout_prob = 0.2;
            let conditions = Conditions { progress: GOLD_SHARE, least_depth, dropout: Some(1) };
            let (loss, gradients) = setting.loss_and_gradients_under(&model, &conditions);
            (loss, gradients.leaves, gradients.words_ud)
        };
        let (plain, again) = (gradients(false), gradients(true));
        assert!(plain.1.iter().any(Option::is_some));
        assert_eq!(plain, again, "{precision:?}, from depth {least_depth} on, {pass_tokens} tokens a pass");
    }
}

/// A batch in passes of a few tokens adds up to the batch in one.
#[test]
fn gradients_of_passes_add_up() {
    let gradients = |pass_tokens: usize| {
        let setting = Setting::new(true, &json!({"reduction": "mean", "pass_tokens": pass_tokens}));
        let model = setting.reference.model(Precision::Fp32);
        let (loss, gradients) = setting.loss_and_gradients(&model, GOLD_SHARE);
        (loss, by_parameter(&model, &gradients))
    };
    let (whole, parts) = (gradients(8192), gradients(1));
    assert!((whole.0 - parts.0).abs() < 1e-6);
    for (name, gradient) in &whole.1 {
        assert!(gradient.allclose(&parts.1[name], 1e-4, 1e-6, false), "`{name}`");
    }
}

/// Rows that are divided among threads too; and the same seed drops the same on as many.
#[test]
fn gradients_of_threads_add_up() {
    let gradients = |threads: usize, dropout: f64| {
        let mut setting = Setting::new(true, &json!({"reduction": "mean"}));
        setting.threads = threads;
        setting.copies = 20;
        let mut model = setting.reference.model(Precision::Fp32);
        model.config.hidden_dropout_prob = dropout;
        let (loss, gradients) = setting.loss_and_gradients(&model, GOLD_SHARE);
        (loss, by_parameter(&model, &gradients))
    };
    let one = gradients(1, 0.0);
    for threads in [2, 3, 6] {
        let (loss, divided) = gradients(threads, 0.0);
        assert!((one.0 - loss).abs() < 1e-6, "{threads} threads");
        for (name, gradient) in &one.1 {
            assert!(gradient.allclose(&divided[name], 1e-4, 1e-6, false), "`{name}` on {threads} threads");
        }
    }
    let (dropped, again) = (gradients(2, 0.2), gradients(2, 0.2));
    assert_eq!(dropped, again);
    assert!((dropped.0 - gradients(1, 0.2).0).abs() > 1e-6, "each part drops by numbers of its own");
}

/// With all below the top layer frozen: its gradients are those of the whole training, and the rest keeps every bit.
#[test]
fn what_is_frozen_has_no_gradient_and_stays_as_it_is() {
    let setting = Setting::new(true, &json!({"weight_decay": 0.1}));
    let mut model = setting.reference.model(Precision::Fp32);
    let (loss, whole) = setting.loss_and_gradients(&model, GOLD_SHARE);
    // Of three layers, the top one, the pooler and the heads.
    let conditions = Conditions { progress: GOLD_SHARE, least_depth: 3, dropout: Some(1) };
    let (same_loss, gradients) = setting.loss_and_gradients_under(&model, &conditions);
    assert_eq!(loss, same_loss);
    assert!(gradients.words_ud.is_none());
    let is_trained = |name: &str| rates::depth(name, 3) >= 3;
    for ((leaf, whole), gradient) in model.leaves.iter().zip(&whole.leaves).zip(&gradients.leaves) {
        assert_eq!(gradient.as_ref(), whole.as_ref().filter(|_| is_trained(&leaf.name)), "`{}`", leaf.name);
    }

    let weights = |model: &Model| -> BTreeMap<String, Tensor> {
        model.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.tensor.copy())).collect()
    };
    let before = weights(&model);
    let mut optimizer = AdamW::new(&model, &setting.params);
    for _ in 0..2 {
        optimizer.step(&mut model, &gradients, LEARNING_RATE, &gradients.norm());
    }
    optimizer.settle(&mut model);
    for (name, weight) in weights(&model) {
        assert_eq!(weight != before[&name], is_trained(&name), "`{name}`");
    }
}

/// Dropout there is libtorch's own: the same seed drops the same, another others.
#[test]
fn a_gpu_drops_by_the_seed() {
    let Some((gpu, _guard)) = gpu() else { return };
    let loss = |seed: u64| {
        let setting = Setting::new(true, &json!({}));
        let mut model = setting.reference.model_on(gpu, Precision::Bf16);
        model.config.hidden_dropout_prob = 0.3;
        model.config.attention_probs_dropout_prob = 0.3;
        let conditions = Conditions { progress: GOLD_SHARE, least_depth: 0, dropout: Some(seed) };
        setting.loss_and_gradients_under(&model, &conditions).0
    };
    assert!((loss(1) - loss(1)).abs() < 1e-6);
    assert!((loss(1) - loss(2)).abs() > 1e-4);
}

/// In bf16: gradients end to end against the reference's in fp32, by direction and length; then weights and moments after an
/// update of all leaves at once against one by one.
#[test]
fn a_gpu_learns_as_the_cpu_does() {
    let Some((gpu, _guard)) = gpu() else { return };
    let setting = Setting::new(true, &json!({"reduction": "mean", "layer_decay": 0.9, "bias_correction": false}));
    let on_cpu = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
    let joined =
        |gradients: BTreeMap<String, Tensor>| Tensor::cat(&gradients.values().map(on_cpu).collect::<Vec<_>>(), 0);
    let [mut cpu_model, mut gpu_model] =
        [Device::Cpu, gpu].map(|device| setting.reference.model_on(device, Precision::Bf16));
    let (cpu_loss, cpu_gradients) = setting.loss_and_gradients(&cpu_model, GOLD_SHARE);
    let (gpu_loss, gpu_gradients) = setting.loss_and_gradients(&gpu_model, GOLD_SHARE);
    assert!((gpu_loss / cpu_loss - 1.0).abs() < 0.02, "{gpu_loss} and {cpu_loss}");
    let (a, b) = (joined(by_parameter(&cpu_model, &cpu_gradients)), joined(by_parameter(&gpu_model, &gpu_gradients)));
    let cosine = (a.dot(&b) / (a.norm() * b.norm())).double_value(&[]);
    assert!(cosine > 0.995, "cosine {cosine}");

    // The same gradients for both, so that their rounding is left out.
    let to_cpu = |tensor: &Tensor| tensor.to_device(Device::Cpu);
    let mut same = Gradients::new(&cpu_model, BatchWords::of(&cpu_model, gpu_gradients.words.ids().to_vec()), 0);
    same.leaves = gpu_gradients.leaves.iter().map(|gradient| gradient.as_ref().map(to_cpu)).collect();
    same.words_ud = gpu_gradients.words_ud.as_ref().map(to_cpu);
    let [mut of_cpu, mut of_gpu] = [&cpu_model, &gpu_model].map(|model| AdamW::new(model, &setting.params));
    of_cpu.step(&mut cpu_model, &same, LEARNING_RATE, &same.norm());
    of_gpu.step(&mut gpu_model, &gpu_gradients, LEARNING_RATE, &gpu_gradients.norm());
    of_cpu.settle(&mut cpu_model);
    for (cpu, gpu) in cpu_model.parameters.iter().zip(&gpu_model.parameters) {
        assert!(cpu.tensor.allclose(&to_cpu(&gpu.tensor), 1e-4, 1e-6, false), "`{}`", cpu.name);
    }
    for ((name, cpu), (_, gpu)) in of_cpu.moments(&cpu_model).zip(of_gpu.moments(&gpu_model)) {
        assert!(cpu.allclose(&to_cpu(gpu), 1e-4, 1e-9, false), "`{name}`");
    }
}
