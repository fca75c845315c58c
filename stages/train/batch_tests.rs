//! Batches of one row, of one task, and of rows of any lengths, divided in any way.

use bam_contract::stage::Precision;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::Kind;

use super::gradients::Gradients;
use super::sampler::Draw;
use super::setting::{GOLD_SHARE, Setting};
use super::words::WORDS;
use super::*;
use crate::encoder::{Leaf, device::upload};

const LEARNING_RATE: f64 = 1e-2;

/// The gradient of each leaf and of the table of words; zero where there is none.
fn whole(model: &Model, gradients: &Gradients) -> Vec<(String, Tensor)> {
    let of_leaf = |(leaf, gradient): (&Leaf, &Option<Tensor>)| {
        let gradient = gradient.as_ref().map_or_else(|| leaf.master.zeros_like(), Tensor::shallow_clone);
        (leaf.name.clone(), gradient.detach())
    };
    let index = upload(gradients.words.ids(), model.device);
    let words = model.words_vd.zeros_like().index_copy_(0, &index, gradients.words_ud.as_ref().unwrap());
    model.leaves.iter().zip(&gradients.leaves).map(of_leaf).chain([(WORDS.to_owned(), words)]).collect()
}

/// Rounding of sums in another order apart.
fn assert_alike(one: &[(String, Tensor)], other: &[(String, Tensor)], what: &str) {
    for ((name, one), (_, other)) in one.iter().zip(other) {
        assert!(one.allclose(other, 1e-4, 1e-6, false), "{what}: `{name}`");
    }
}

fn only(task: usize, draws: &[Draw]) -> Vec<Draw> {
    draws.iter().copied().filter(|draw| draw.task == task).collect()
}

/// One row, one step: moments are the gradient and its square, corrected to those themselves.
#[test]
fn one_row_moves_weights_as_adamw_says() {
    const DECAY: f64 = 0.1;
    let setting = Setting::new(true, &json!({"weight_decay": DECAY, "clip_norm": 0.5}));
    let mut model = setting.reference.model(Precision::Fp32);
    let draw = vec![Draw { task: 0, row: 2 }];
    let words = word_ids(&setting.set.read(draw.clone()).unwrap(), setting.set.pad_id());
    let (_, gradients) = setting.of_draws(&model, draw, &words, &Setting::at(GOLD_SHARE));
    let norm = gradients.norm();
    let clip = (0.5 / norm.double_value(&[])).min(1.0);
    assert!(clip < 1.0);
    let weights = |model: &Model| -> Vec<Tensor> {
        let leaves = model.leaves.iter().map(|leaf| &leaf.master);
        leaves.chain([&model.words_vd]).map(|weights| weights.detach().copy().to_kind(Kind::Double)).collect()
    };
    let before = weights(&model);
    let mut optimizer = AdamW::new(&model, &setting.params);
    optimizer.step(&mut model, &gradients, LEARNING_RATE, &norm);
    optimizer.settle(&mut model);
    let has_gradient = gradients.leaves.iter().map(Option::is_some).chain([true]);
    let moved = before.iter().zip(weights(&model)).zip(whole(&model, &gradients)).zip(has_gradient);
    let mut still = Vec::new();
    for (((before, after), (name, gradient)), has_gradient) in moved {
        if !has_gradient {
            assert_eq!(*before, after, "`{name}`");
            still.push(name);
            continue;
        }
        let decay = if name.contains("bias") || name.contains("LayerNorm") { 0.0 } else { DECAY };
        let g = gradient.to_kind(Kind::Double) * clip;
        let expected = before - LEARNING_RATE * (&g / (g.abs() + 1e-6) + decay * before);
        let difference = (after - expected).abs().max().double_value(&[]) / LEARNING_RATE;
        assert!(difference < 1e-3, "`{name}` differs by {difference:e} of a rate");
    }
    assert_eq!(still, ["heads.sim.weight", "heads.sim.bias"]);
}

#[test]
fn a_head_without_rows_stays_still_with_its_moments() {
    let setting = Setting::new(true, &json!({"weight_decay": 0.1}));
    let words = word_ids(&setting.set.read(setting.batch()).unwrap(), setting.set.pad_id());
    for at_once in [false, true] {
        let mut model = setting.reference.model(Precision::Fp32);
        let mut optimizer = AdamW::new(&model, &setting.params);
        let mut step = |model: &mut Model, draws: Vec<Draw>| {
            let (_, gradients) = setting.of_draws(model, draws, &words, &Setting::at(GOLD_SHARE));
            optimizer.step_either_way(at_once, model, &gradients, LEARNING_RATE, &gradients.norm());
            let weights = model.leaves.iter().map(|leaf| (leaf.name.clone(), leaf.master.detach().copy()));
            let moments = optimizer.moments(model).map(|(name, moment)| (name, moment.copy()));
            weights.chain(moments).filter(|(name, _)| name.contains("heads.")).collect::<Vec<_>>()
        };
        let before = step(&mut model, setting.batch());
        let after = step(&mut model, only(0, &setting.batch()));
        assert_eq!(before.len(), 2 * 2 * 3, "two tensors of each head, with two moments each");
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            assert!(before.abs().max().double_value(&[]) > 0.0, "`{name}`");
            assert_eq!(before == after, name.contains("heads.sim."), "`{name}`");
        }
    }
}

/// Parts whose rows are all of one task have no gradient of the other's head.
#[test]
fn parts_of_one_task_each_add_up() {
    // Rows of a length are of the one task, then of the other: so each of two threads gets one task.
    let lengths: Vec<usize> = (3..=24).collect();
    let mut setting = Setting::random(&lengths, 1, &json!({"reduction": "sum"}));
    let model = setting.reference.model(Precision::Fp32);
    let drawn = setting.set.read(setting.batch()).unwrap();
    let words = word_ids(&drawn, setting.set.pad_id());
    let of = |setting: &Setting, draws: Vec<Draw>| setting.of_draws(&model, draws, &words, &Setting::at(GOLD_SHARE)).1;
    let all = whole(&model, &of(&setting, setting.batch()));

    let of_task = |task: usize| of(&setting, only(task, &setting.batch()));
    for task in [0, 1] {
        let lacks = of_task(task).leaves.iter().filter(|gradient| gradient.is_none()).count();
        assert_eq!(lacks, 2, "weight and bias of the other head");
        let summed = of_task(task).plus(of_task(1 - task));
        assert!(summed.leaves.iter().all(Option::is_some));
        assert_alike(&whole(&model, &summed), &all, "one task after the other");
    }
    let without = of_task(0).plus(of_task(0));
    assert_eq!(without.leaves.iter().filter(|gradient| gradient.is_none()).count(), 2, "neither has one");

    setting.threads = 2;
    let lengths: Vec<usize> = (0..drawn.rows.len()).map(|row| drawn.rows.tokens(row)).collect();
    let parts = Crew::new(2, model.device).unwrap().divide(&lengths);
    let task_of = |row: &usize| drawn.draws[*row].task;
    assert!(parts.len() == 2 && parts.iter().all(|part| part.iter().all(|row| task_of(row) == task_of(&part[0]))));
    assert_alike(&whole(&model, &of(&setting, setting.batch())), &all, "on two threads");
}

#[test]
fn however_a_ragged_batch_is_divided_its_gradients_are_the_same() {
    for seed in 0..6 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let rows = random.random_range(1..90);
        let lengths: Vec<usize> = (0..rows).map(|_| random.random_range(3..=24)).collect();
        let mut setting = Setting::random(&lengths, seed, &json!({"reduction": "mean"}));
        let model = setting.reference.model(Precision::Fp32);
        let draw = |_| Draw { task: random.random_range(0..2), row: random.random_range(0..rows) };
        let draws: Vec<Draw> = (0..rows).map(draw).collect();
        let words = word_ids(&setting.set.read(draws.clone()).unwrap(), setting.set.pad_id());
        let mut of = |threads: usize, pass_tokens: usize, recompute: bool| {
            setting.threads = threads;
            setting.params.pass_tokens = pass_tokens;
            setting.params.recompute = recompute;
            let conditions = Conditions { dropout: None, ..Setting::at(GOLD_SHARE) };
            let (loss, gradients) = setting.of_draws(&model, draws.clone(), &words, &conditions);
            (loss, whole(&model, &gradients))
        };
        let (loss, at_once) = of(1, 8192, false);
        for threads in 1..=6 {
            for (pass_tokens, recompute) in [(8192, false), (8192, true), (200, false), (60, true)] {
                let (same, divided) = of(threads, pass_tokens, recompute);
                let what = format!("seed {seed}, {threads} threads, {pass_tokens} tokens a pass, again: {recompute}");
                assert!((same - loss).abs() < 1e-5, "{what}: {same} and {loss}");
                assert_alike(&divided, &at_once, &what);
            }
        }
    }
}
