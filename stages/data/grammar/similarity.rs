//! Similarity: how much of what one sentence says the other says too, from 0 to 5.

use bam_contract::artifact::examples::Example;

use super::change::Change;
use super::clause::{Clause, Name, PLAIN};
use super::dice::Dice;

/// What each part of a clause weighs.
const AGENT: usize = 12;
const VERB: usize = 12;
const OBJECT: usize = 12;
const PLACE: usize = 6;
const TIME: usize = 6;
/// Greatest score, in tenths.
const SAME: usize = 50;
/// Two people do not quite agree: tenths by which a score is off, at most.
const DISAGREEMENT: usize = 4;

pub(super) fn write(dice: &mut Dice) -> Example {
    let mut clause = Clause::draw(dice);
    clause.negated = false;
    let mut other = clause.clone();
    // Rows of all scores are equally frequent when the chance to keep a part differs from row to row.
    let keep = 10 * dice.below(11);
    let mut kept = |change: Change, dice: &mut Dice| dice.percent(keep) || !change.make(&mut other, dice);
    let kept = [Change::Agent, Change::Verb, Change::Object, Change::Place, Change::Time].map(|part| kept(part, dice));
    let nouns = [(&clause.agent, &other.agent), (&clause.object, &other.object)];
    let related = nouns.map(|(one, other)| one.noun.kind == other.noun.kind);
    let parts = [
        (AGENT, shared(kept[0], related[0])),
        (VERB, shared(kept[1], false)),
        (OBJECT, shared(kept[2], related[1])),
        (if clause.place.is_some() { PLACE } else { 0 }, shared(kept[3], false)),
        (if clause.time.is_some() { TIME } else { 0 }, shared(kept[4], false)),
    ];
    let whole: usize = parts.iter().map(|(weight, _)| weight).sum();
    let halves: usize = parts.iter().map(|(weight, halves)| weight * halves).sum();
    let tenths = SAME * halves / (2 * whole);
    reword(&mut other, dice);
    let judged = (tenths + dice.below(2 * DISAGREEMENT + 1)).saturating_sub(DISAGREEMENT).min(SAME);
    let fifths = judged.div_ceil(2);
    Example { text: clause.say(PLAIN), pair: Some(other.say(PLAIN)), label: Some(fifths as f64 / 5.0) }
}

/// Halves of its weight that a part adds: both where it is the same, one where both are of one kind.
fn shared(kept: bool, related: bool) -> usize {
    match (kept, related) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    }
}

/// Other words of the same meaning, which take nothing away.
fn reword(clause: &mut Clause, dice: &mut Dice) {
    for phrase in [&mut clause.agent, &mut clause.object] {
        if dice.percent(30) {
            phrase.name = Name::Alias;
        }
        if dice.percent(20) {
            phrase.adjective = None;
        }
    }
    if dice.percent(30) {
        clause.verb_name = Name::Alias;
    }
}
