//! Five small tasks written by a seeded grammar, so that the default pipeline needs no download.
//!
//! Learnable but not trivial: meaning hangs on word order, negation and number as well as on words, and a
//! few labels are wrong on purpose. Scores on them say nothing about GLUE.

mod acceptability;
mod change;
mod clause;
mod dice;
mod entailment;
mod lexicon;
mod paraphrase;
mod sentiment;
mod similarity;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use anyhow::{Context, Result};
use bam_contract::artifact::examples::Example;
use bam_contract::digest::Digest;
use bam_contract::fault::Fault;

use dice::Dice;

/// Percentage of the rows that get a wrong class.
const NOISE: usize = 4;
/// Draws in a row that only repeat earlier rows, after which the grammar is taken to be exhausted.
const MOST_REPEATS: usize = 1000;

/// One task's grammar: its number of classes (1 for a regression), and how it writes a row.
struct Grammar {
    task: &'static str,
    classes: usize,
    write: fn(&mut Dice) -> Example,
}

const GRAMMARS: [Grammar; 5] = [
    Grammar { task: "acceptability", classes: 2, write: acceptability::write },
    Grammar { task: "sentiment", classes: 2, write: sentiment::write },
    Grammar { task: "paraphrase", classes: 2, write: paraphrase::write },
    Grammar { task: "similarity", classes: 1, write: similarity::write },
    Grammar { task: "entailment", classes: 3, write: entailment::write },
];

/// Rows of the task without end, no two with the same texts (in either order of a pair) and no pair of one
/// text twice; bit for bit the same for the same seed on every platform.
///
/// # Errors
/// When no grammar writes the task; as an item, when it has no more different rows.
pub(super) fn examples(task: &str, seed: u64) -> Result<impl Iterator<Item = Result<Example>>> {
    let grammar = GRAMMARS.iter().find(|grammar| grammar.task == task);
    let grammar = grammar.with_context(|| format!("no grammar writes the task `{task}`"))?;
    let mut dice = Dice::of(task, seed);
    let mut seen = HashSet::new();
    Ok(std::iter::from_fn(move || {
        let mut draws = (0..MOST_REPEATS).map(|_| (grammar.write)(&mut dice));
        let fresh = draws.find(|example| example.pair.as_ref() != Some(&example.text) && seen.insert(content(example)));
        Some(fresh.map(|example| noisy(example, grammar.classes, &mut dice)).ok_or_else(|| {
            let message = format!("the grammar of `{task}` has little more than {} different rows", seen.len());
            Fault::new(message, "ask for fewer rows under `grammar:`").into()
        }))
    }))
}

/// A row's texts, whichever comes first.
fn content(example: &Example) -> Digest {
    let mut texts = [example.text.as_str(), example.pair.as_deref().unwrap_or_default()];
    texts.sort_unstable();
    Digest::of(texts.join("\n").as_bytes())
}

fn noisy(mut example: Example, classes: usize, dice: &mut Dice) -> Example {
    if classes > 1 && dice.percent(NOISE) {
        let other = 1 + dice.below(classes - 1);
        example.label = example.label.map(|label| ((label as usize + other) % classes) as f64);
    }
    example
}
