//! Paraphrase: whether two sentences say the same. Those that do not share most of their words.

use bam_contract::artifact::examples::Example;

use super::change::{Change, rename};
use super::clause::{Clause, Style};
use super::dice::Dice;

pub(super) fn write(dice: &mut Dice) -> Example {
    let equivalent = dice.percent(50);
    loop {
        let clause = Clause::draw(dice);
        let mut other = clause.clone();
        if !equivalent {
            while !Change::draw(dice).make(&mut other, dice) {}
            if dice.percent(50) {
                // Back to front a negation would take itself back; another noun or verb never does.
                dice.pick(&[Change::Verb, Change::Object, Change::Agent]).make(&mut other, dice);
            }
        }
        if equivalent || dice.percent(50) {
            rename(&mut other, dice);
        }
        let (text, pair) = (clause.say(Style::draw(dice)), other.say(Style::draw(dice)));
        // Only equivalent ones come out alike; to drop those later would leave too few of them.
        if text != pair {
            return Example { text, pair: Some(pair), label: Some(f64::from(u8::from(equivalent))) };
        }
    }
}
