//! Entailment: whether the second sentence follows from the first, contradicts it, or neither.

use bam_contract::artifact::examples::Example;

use super::change::{Change, oppose, rename};
use super::clause::{Clause, Name, Shade, Style};
use super::dice::Dice;
use super::lexicon::{PLACES, TIMES};

/// Classes in the task's order.
const ENTAILMENT: u8 = 0;
const NEUTRAL: u8 = 1;
const CONTRADICTION: u8 = 2;

pub(super) fn write(dice: &mut Dice) -> Example {
    let mut premise = Clause::draw(dice);
    let label = *dice.pick(&[ENTAILMENT, NEUTRAL, CONTRADICTION]);
    let hypothesis = match label {
        ENTAILMENT => entailed(&premise, dice),
        NEUTRAL => unsettled(&mut premise, dice),
        _ => contradicted(&premise, dice),
    };
    let (text, pair) = (premise.say(Style::draw(dice)), hypothesis.say(Style::draw(dice)));
    Example { text, pair: Some(pair), label: Some(f64::from(label)) }
}

/// Says less than the premise, or the same in other words.
fn entailed(premise: &Clause, dice: &mut Dice) -> Clause {
    let mut hypothesis = premise.clone();
    // What is not so of the whole may still be so of a part: under a negation nothing may be left out.
    if !premise.negated {
        leave_out(&mut hypothesis, dice);
    }
    if dice.percent(50) {
        rename(&mut hypothesis, dice);
    }
    hypothesis
}

/// Adds what the premise leaves open; alters `premise` to leave something open.
fn unsettled(premise: &mut Clause, dice: &mut Dice) -> Clause {
    let mut hypothesis = premise.clone();
    if dice.percent(30) {
        leave_out(&mut hypothesis, dice);
    }
    match dice.below(5) {
        0 => {
            premise.place = None;
            hypothesis.place = Some(*dice.pick(PLACES));
        }
        1 => {
            premise.time = None;
            hypothesis.time = Some(*dice.pick(TIMES));
        }
        2 => {
            premise.object.name = Name::Kind;
            hypothesis.object.name = Name::Own;
        }
        3 => {
            premise.object.adjective = None;
            hypothesis.object.adjective = Some((dice.pick(premise.realm.adjectives), Shade::Own));
        }
        _ => _ = Change::Agent.make(&mut hypothesis, dice),
    }
    if !premise.negated && dice.percent(8) {
        hypothesis.negated = true;
    }
    hypothesis
}

/// Denies the premise, or one side of it.
fn contradicted(premise: &Clause, dice: &mut Dice) -> Clause {
    let mut hypothesis = premise.clone();
    let opposed =
        !premise.negated && dice.percent(30) && (oppose(&mut hypothesis.object) || oppose(&mut hypothesis.agent));
    if !opposed {
        hypothesis.negated = !hypothesis.negated;
        if !premise.negated {
            leave_out(&mut hypothesis, dice);
        }
    }
    if dice.percent(50) {
        rename(&mut hypothesis, dice);
    }
    hypothesis
}

/// Leaves out some of what is said, and says kinds for what is of them.
fn leave_out(clause: &mut Clause, dice: &mut Dice) {
    if dice.percent(60) {
        clause.place = None;
    }
    if dice.percent(60) {
        clause.time = None;
    }
    for phrase in [&mut clause.agent, &mut clause.object] {
        if dice.percent(30) {
            phrase.adjective = None;
        }
        if dice.percent(50) {
            phrase.name = Name::Kind;
        }
        if phrase.plural && dice.percent(60) {
            phrase.determiner = "some";
        }
    }
}
