//! One event in the past: who did what to whom, how many, where and when; and the ways to say it.

use super::dice::Dice;
use super::lexicon::{Adjective, NUMERALS, Noun, Number, PEOPLE, PLACES, REALMS, Realm, TIMES, Verb};

/// Which of its names a thing is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Own,
    /// The other word of the same meaning, where there is one.
    Alias,
    /// The kind that a noun is one of.
    Kind,
}

/// Which of its words an adjective is said by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    Own,
    Alias,
    Opposite,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Phrase {
    pub(super) determiner: &'static str,
    pub(super) adjective: Option<(&'static Adjective, Shade)>,
    pub(super) noun: &'static Noun,
    pub(super) name: Name,
    pub(super) plural: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clause {
    pub(super) agent: Phrase,
    pub(super) verb: &'static Verb,
    pub(super) verb_name: Name,
    pub(super) negated: bool,
    pub(super) object: Phrase,
    pub(super) place: Option<&'static str>,
    pub(super) time: Option<&'static str>,
    /// What may stand for the verb and the object.
    pub(super) realm: &'static Realm,
}

/// How a clause is said; the meaning stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) passive: bool,
    /// The time comes first.
    pub(super) time_first: bool,
}

pub(super) const PLAIN: Style = Style { passive: false, time_first: false };

impl Style {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        Self { passive: dice.percent(20), time_first: dice.percent(25) }
    }
}

impl Phrase {
    pub(super) fn draw(nouns: &'static [Noun], adjectives: &'static [Adjective], dice: &mut Dice) -> Self {
        let plural = dice.percent(30);
        let counted = plural && dice.percent(50);
        Self {
            determiner: if counted { *dice.pick(NUMERALS) } else { "the" },
            adjective: dice.percent(20).then(|| (dice.pick(adjectives), Shade::Own)),
            noun: dice.pick(nouns),
            name: Name::Own,
            plural,
        }
    }

    fn number(&self) -> Number {
        match self.name {
            Name::Own => self.noun.own,
            Name::Alias => self.noun.alias.unwrap_or(self.noun.own),
            Name::Kind => self.noun.kind,
        }
    }

    fn words(&self) -> String {
        let adjective = self.adjective.map(|(adjective, shade)| match shade {
            Shade::Own => adjective.own,
            Shade::Alias => adjective.alias.unwrap_or(adjective.own),
            Shade::Opposite => adjective.opposite,
        });
        let noun = self.number()[usize::from(self.plural)];
        [Some(self.determiner), adjective, Some(noun)].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl Clause {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let realm = dice.pick(&REALMS);
        let agent = Phrase::draw(PEOPLE, REALMS[0].adjectives, dice);
        let mut object = Phrase::draw(realm.nouns, realm.adjectives, dice);
        if object.noun == agent.noun {
            object.noun = dice.pick_other(realm.nouns, agent.noun);
        }
        Self {
            agent,
            verb: dice.pick(realm.verbs),
            verb_name: Name::Own,
            negated: dice.percent(6),
            object,
            place: dice.percent(35).then(|| *dice.pick(PLACES)),
            time: dice.percent(35).then(|| *dice.pick(TIMES)),
            realm,
        }
    }

    /// Whether agent and object could change places.
    pub(super) fn is_among_people(&self) -> bool {
        self.realm == &REALMS[0]
    }

    /// The clause as a sentence.
    pub(super) fn say(&self, style: Style) -> String {
        let forms =
            if self.verb_name == Name::Alias { self.verb.alias.unwrap_or(self.verb.own) } else { self.verb.own };
        let [base, _, past, participle] = forms;
        let (agent, object) = (self.agent.words(), self.object.words());
        let mut parts = Vec::new();
        if style.time_first {
            parts.extend(self.time.map(|time| format!("{time},")));
        }
        parts.push(match (style.passive, self.negated) {
            (false, false) => format!("{agent} {past} {object}"),
            (false, true) => format!("{agent} did not {base} {object}"),
            (true, negated) => {
                let be = if self.object.plural { "were" } else { "was" };
                let not = if negated { " not" } else { "" };
                format!("{object} {be}{not} {participle} by {agent}")
            }
        });
        parts.extend(self.place.map(ToOwned::to_owned));
        if !style.time_first {
            parts.extend(self.time.map(ToOwned::to_owned));
        }
        sentence(&parts.join(" "))
    }
}

/// Words as a sentence: a capital first, and a full stop last unless it is a question.
pub(super) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let stop = (!words.ends_with('?')).then_some('.');
    first.into_iter().chain(letters).chain(stop).collect()
}
