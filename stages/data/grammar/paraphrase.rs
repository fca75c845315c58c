//! Paraphrase: whether two sentences say the same. Those that do not share most of their words.

use bam_contract::artifact::examples::Example;

use super::change::{Change, rename};
use super::clause::{Clause, Style};
use super::dice::Dice;

pub(super) fn write(dice: &mut Dice) -> Example {
    let clause = Clause::draw(dice);
    let text = clause.say(Style::draw(dice));
    let equivalent = dice.percent(50);
    // Drawn anew until it reads differently, or pairs that mean the same would be the fewer.
    loop {
        let mut other = clause.clone();
        if !equivalent {
            change(&mut other, dice);
        }
        if equivalent || dice.percent(50) {
            rename(&mut other, dice);
        }
        let pair = other.say(Style::draw(dice));
        if pair != text {
            return Example { text, pair: Some(pair), label: Some(f64::from(u8::from(equivalent))) };
        }
    }
}

fn change(clause: &mut Clause, dice: &mut Dice) {
    while !Change::draw(dice).make(clause, dice) {}
    if dice.percent(50) {
        // A second negation would take the first one back; another noun or verb hardly ever does.
        dice.pick(&[Change::Verb, Change::Object, Change::Agent]).make(clause, dice);
    }
}
