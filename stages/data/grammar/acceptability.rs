//! Acceptability: whether a sentence is one of English. Those that are not break agreement, word order,
//! the number of a verb's objects, or a verb's form.

use bam_contract::artifact::examples::Example;

use super::clause::sentence;
use super::dice::Dice;
use super::lexicon::{ALONE, NUMERALS, PEOPLE, PLACES, REALMS, TO_OBJECTS, TO_PEOPLE, Verb};

/// A frame writes a sentence, or breaks it in the way the frame can be broken.
type Frame = fn(&mut Dice, bool) -> String;

/// Those that neighbouring words give away stand twice, or little would be learnt from few rows.
const FRAMES: [Frame; 13] = [
    agreement,
    reflexive,
    question,
    objectless,
    objectless,
    needs_object,
    needs_object,
    auxiliary,
    auxiliary,
    existence,
    existence,
    word_order,
    word_order,
];

pub(super) fn write(dice: &mut Dice) -> Example {
    let acceptable = dice.percent(50);
    let frame = *dice.pick(&FRAMES);
    let text = sentence(&frame(dice, !acceptable));
    Example { text, pair: None, label: Some(f64::from(u8::from(acceptable))) }
}

/// `the <noun>`, and whether it is many.
fn somebody(dice: &mut Dice) -> (String, bool) {
    let many = dice.percent(50);
    (format!("the {}", dice.pick(PEOPLE).own[usize::from(many)]), many)
}

fn something(dice: &mut Dice) -> String {
    let realm = dice.pick(&REALMS[1..]);
    let adjective = if dice.percent(40) { format!("{} ", dice.pick(realm.adjectives).own) } else { String::new() };
    format!("the {adjective}{}", dice.pick(realm.nouns).own[usize::from(dice.percent(40))])
}

/// The present form that agrees with a subject, or the one that does not.
fn present(verb: &Verb, many: bool, broken: bool) -> &'static str {
    verb.own[usize::from(many == broken)]
}

/// "The girls near the judge laugh": agreement across another noun.
fn agreement(dice: &mut Dice, broken: bool) -> String {
    let (subject, many) = somebody(dice);
    let (nearby, _) = somebody(dice);
    let joint = dice.pick(&["near", "behind", "next to", "with"]);
    let (object, verb) = (somebody(dice).0, present(dice.pick(TO_PEOPLE), many, broken));
    if dice.percent(15) {
        format!("{subject} {joint} {nearby} {verb} {object}")
    } else {
        format!("{subject} {verb} {object} {}", dice.pick(PLACES))
    }
}

/// "The boy sneezed"; broken, with an object that the verb does not take.
fn objectless(dice: &mut Dice, broken: bool) -> String {
    let (subject, verb, place) = (somebody(dice).0, dice.pick(ALONE).own[2], dice.pick(PLACES));
    if broken { format!("{subject} {verb} {} {place}", something(dice)) } else { format!("{subject} {verb} {place}") }
}

/// "The boy repaired the car"; broken, without the object that the verb needs, or with two.
fn needs_object(dice: &mut Dice, broken: bool) -> String {
    let (subject, object, place) = (somebody(dice).0, something(dice), dice.pick(PLACES));
    let verb = dice.pick(TO_OBJECTS).alias.unwrap_or(["damage", "damages", "damaged", "damaged"])[2];
    match (broken, dice.percent(50)) {
        (false, _) => format!("{subject} {verb} {object} {place}"),
        (true, false) => format!("{subject} {verb} {place}"),
        (true, true) => format!("{subject} {verb} {object} {}", somebody(dice).0),
    }
}

/// "Who did the boy thank?"; broken, with the gap filled, without `did`, or with the verb in the past.
fn question(dice: &mut Dice, broken: bool) -> String {
    let (who, realm) = if dice.percent(50) { ("who", &REALMS[0]) } else { ("what", &REALMS[2]) };
    let [base, _, past, _] = dice.pick(realm.verbs).own;
    let (subject, place) = (somebody(dice).0, dice.pick(PLACES));
    match (broken, dice.below(3)) {
        (false, _) => format!("{who} did {subject} {base} {place}?"),
        (true, 0) => format!("{who} did {subject} {base} {} {place}?", something(dice)),
        (true, 1) => format!("{who} {subject} {past} {place}?"),
        (true, _) => format!("{who} did {subject} {past} {place}?"),
    }
}

/// "The boys praised themselves"; broken, with a pronoun of the other number.
fn reflexive(dice: &mut Dice, broken: bool) -> String {
    let (noun, many) = (dice.pick(PEOPLE), dice.percent(50));
    let one = match noun.own[0] {
        "girl" => "herself",
        "boy" | "policeman" | "waiter" => "himself",
        _ => *dice.pick(&["himself", "herself"]),
    };
    let subject = noun.own[usize::from(many)];
    let pronoun = if many == broken { one } else { "themselves" };
    let verb = dice.pick(TO_PEOPLE).own[2];
    let nearby = if dice.percent(20) { format!(" near {}", somebody(dice).0) } else { String::new() };
    format!("the {subject}{nearby} {verb} {pronoun}")
}

/// "The boy has repaired the car"; broken, with the wrong form of either verb.
fn auxiliary(dice: &mut Dice, broken: bool) -> String {
    let (subject, many) = somebody(dice);
    let [base, third, past, participle] = dice.pick(TO_OBJECTS).own;
    let object = something(dice);
    let has = if many { "have" } else { "has" };
    let verbs = match (broken, dice.below(3)) {
        (false, 0) => format!("will {base}"),
        (false, 1) => format!("{has} {participle}"),
        (false, _) => format!("did not {base}"),
        (true, 0) => format!("will {past}"),
        (true, 1) => format!("{has} {base}"),
        (true, _) => format!("did not {third}"),
    };
    format!("{subject} {verbs} {object}")
}

/// "There are two dogs in the garden"; broken in number.
fn existence(dice: &mut Dice, broken: bool) -> String {
    let nouns = dice.pick(&REALMS).nouns;
    let many = dice.percent(50);
    let determiner = if many { *dice.pick(NUMERALS) } else { "one" };
    let wrong_noun = broken && dice.percent(50);
    let noun = dice.pick(nouns).own[usize::from(many != wrong_noun)];
    let be = if many == (broken && !wrong_noun) { "is" } else { "are" };
    format!("there {be} {determiner} {noun} {}", dice.pick(PLACES))
}

/// "The boy found the old car in the garden"; broken, with two neighbouring words changed over.
fn word_order(dice: &mut Dice, broken: bool) -> String {
    let (subject, object, place) = (somebody(dice).0, something(dice), dice.pick(PLACES));
    let words = format!("{subject} {} {object} {place}", dice.pick(TO_OBJECTS).own[2]);
    let mut words: Vec<_> = words.split(' ').collect();
    if broken {
        let at = dice.below(words.len() - 1);
        words.swap(at, at + 1);
    }
    words.join(" ")
}
