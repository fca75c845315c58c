//! Changes to a clause: some keep its meaning, some do not.

use super::clause::{Clause, Name, Phrase, Shade};
use super::dice::Dice;
use super::lexicon::{NUMERALS, PEOPLE, PLACES, TIMES};

/// Changes that leave a clause true of something else.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Roles,
    Negation,
    Agent,
    Verb,
    Object,
    Count,
    Place,
    Time,
    Adjective,
}

impl Change {
    /// Draws a change; those that a word or two give away come more often than those of order and number.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        *dice.pick(&[
            Self::Negation,
            Self::Negation,
            Self::Negation,
            Self::Verb,
            Self::Verb,
            Self::Object,
            Self::Object,
            Self::Agent,
            Self::Agent,
            Self::Place,
            Self::Time,
            Self::Adjective,
            Self::Count,
            Self::Roles,
        ])
    }

    /// Makes the change; false where the clause has nothing to change so.
    pub(super) fn make(self, clause: &mut Clause, dice: &mut Dice) -> bool {
        match self {
            Self::Roles if clause.is_among_people() => std::mem::swap(&mut clause.agent, &mut clause.object),
            Self::Roles => return false,
            Self::Negation => clause.negated = !clause.negated,
            Self::Agent => clause.agent.noun = dice.pick_other(PEOPLE, clause.agent.noun),
            Self::Verb => clause.verb = dice.pick_other(clause.realm.verbs, clause.verb),
            Self::Object => clause.object.noun = dice.pick_other(clause.realm.nouns, clause.object.noun),
            Self::Count => recount(if dice.percent(50) { &mut clause.agent } else { &mut clause.object }, dice),
            Self::Place => return replace(&mut clause.place, PLACES, dice),
            Self::Time => return replace(&mut clause.time, TIMES, dice),
            Self::Adjective => return oppose(&mut clause.object) || oppose(&mut clause.agent),
        }
        true
    }
}

/// Another number: one instead of many, or more or fewer of them.
fn recount(phrase: &mut Phrase, dice: &mut Dice) {
    if phrase.determiner == "the" {
        phrase.plural = !phrase.plural;
    } else {
        phrase.determiner = *dice.pick_other(NUMERALS, &phrase.determiner);
    }
}

fn replace(words: &mut Option<&'static str>, by: &'static [&'static str], dice: &mut Dice) -> bool {
    if let Some(said) = words {
        *said = *dice.pick_other(by, said);
    }
    words.is_some()
}

/// The opposite adjective; false where there is none.
pub(super) fn oppose(phrase: &mut Phrase) -> bool {
    if let Some((_, shade)) = &mut phrase.adjective {
        *shade = Shade::Opposite;
    }
    phrase.adjective.is_some()
}

/// Says some things by their other names; the meaning stays.
pub(super) fn rename(clause: &mut Clause, dice: &mut Dice) {
    if dice.percent(60) {
        clause.verb_name = Name::Alias;
    }
    for phrase in [&mut clause.agent, &mut clause.object] {
        if phrase.name == Name::Own && dice.percent(60) {
            phrase.name = Name::Alias;
        }
        if let Some((_, shade @ Shade::Own)) = &mut phrase.adjective
            && dice.percent(50)
        {
            *shade = Shade::Alias;
        }
    }
}
