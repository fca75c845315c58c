//! Similarity: how much of what one sentence says the other says too, from 0 to 5.

use bam_contract::artifact::examples::Example;

use super::change::Change;
use super::clause::{Clause, Name, PLAIN, Phrase, Style};
use super::dice::Dice;
use super::lexicon::{Noun, PLACES, TIMES};

/// Tenths of a point that each part of a clause is worth; 50 in all.
const AGENT: usize = 12;
const VERB: usize = 13;
const OBJECT: usize = 13;
const PLACE: usize = 6;
const TIME: usize = 6;
/// Two people do not quite agree: tenths by which a score is off, at most.
const DISAGREEMENT: usize = 4;

pub(super) fn write(dice: &mut Dice) -> Example {
    let mut clause = Clause::draw(dice);
    clause.negated = false;
    clause.place.get_or_insert_with(|| *dice.pick(PLACES));
    clause.time.get_or_insert_with(|| *dice.pick(TIMES));
    let mut other = clause.clone();
    // Rows of all scores are equally frequent when the chance to keep a part differs from row to row.
    let keep = 10 * dice.below(11);
    let mut change = |change: Change, dice: &mut Dice| !dice.percent(keep) && change.make(&mut other, dice);
    let verb_differs = change(Change::Verb, dice);
    let (agent_differs, object_differs) = (change(Change::Agent, dice), change(Change::Object, dice));
    let (place_differs, time_differs) = (change(Change::Place, dice), change(Change::Time, dice));
    let mut tenths = [(verb_differs, VERB), (place_differs, PLACE), (time_differs, TIME)]
        .into_iter()
        .filter_map(|(differs, worth)| (!differs).then_some(worth))
        .sum::<usize>();
    tenths += shared(agent_differs, clause.agent.noun, other.agent.noun, AGENT);
    tenths += shared(object_differs, clause.object.noun, other.object.noun, OBJECT);
    for part in [&mut other.agent, &mut other.object] {
        reword(part, dice);
    }
    if dice.percent(40) {
        other.verb_name = Name::Alias;
    }
    let judged = (tenths + dice.below(2 * DISAGREEMENT + 1)).saturating_sub(DISAGREEMENT).min(50);
    let fifths = judged.div_ceil(2);
    let pair = other.say(Style::draw(dice));
    Example { text: clause.say(PLAIN), pair: Some(pair), label: Some(fifths as f64 / 5.0) }
}

/// What a noun adds: its full worth, half where both are of one kind, or nothing.
fn shared(differs: bool, one: &Noun, other: &Noun, worth: usize) -> usize {
    match differs {
        false => worth,
        true if one.kind == other.kind => worth / 2,
        true => 0,
    }
}

fn reword(phrase: &mut Phrase, dice: &mut Dice) {
    if dice.percent(40) {
        phrase.name = Name::Alias;
    }
    if dice.percent(20) {
        phrase.adjective = None;
    }
}
