//! Sentiment: whether a review is for or against. Words of praise come negated, and clauses of both
//! kinds in one sentence, where the main one counts.

use bam_contract::artifact::examples::Example;

use super::clause::sentence;
use super::dice::Dice;

const ASPECTS: &[&str] = &[
    "plot",
    "acting",
    "ending",
    "music",
    "food",
    "soup",
    "service",
    "room",
    "hotel",
    "staff",
    "concert",
    "lecture",
    "camera",
    "screen",
    "battery",
    "story",
    "dialogue",
    "breakfast",
    "view",
    "sound",
];
/// Words of blame, then of praise.
const ADJECTIVES: [&[&str]; 2] = [
    &[
        "awful",
        "terrible",
        "boring",
        "dreadful",
        "dull",
        "disappointing",
        "horrible",
        "annoying",
        "mediocre",
        "clumsy",
        "unpleasant",
        "lousy",
        "tedious",
        "pathetic",
        "bland",
    ],
    &[
        "wonderful",
        "excellent",
        "delightful",
        "charming",
        "superb",
        "pleasant",
        "brilliant",
        "impressive",
        "lovely",
        "fantastic",
        "enjoyable",
        "amazing",
        "fresh",
        "elegant",
        "great",
    ],
];
/// Base form and past.
const VERBS: [&[[&str; 2]]; 2] = [
    &[
        ["hate", "hated"],
        ["dislike", "disliked"],
        ["regret", "regretted"],
        ["despise", "despised"],
        ["detest", "detested"],
    ],
    &[["love", "loved"], ["enjoy", "enjoyed"], ["admire", "admired"], ["adore", "adored"], ["like", "liked"]],
];

pub(super) fn write(dice: &mut Dice) -> Example {
    let praise = dice.percent(50);
    let main = clause(praise, dice);
    let text = match dice.below(10) {
        0..=3 => main,
        4 => format!("{main}, and {}", clause(praise, dice)),
        5 => format!("{}, and {main}", clause(praise, dice)),
        6 | 7 => format!("{}, but {main}", clause(!praise, dice)),
        8 => format!("although {}, {main}", clause(!praise, dice)),
        _ => format!("{main}, even though {}", clause(!praise, dice)),
    };
    Example { text: sentence(&text), pair: None, label: Some(f64::from(u8::from(praise))) }
}

/// A clause for or against something.
fn clause(praise: bool, dice: &mut Dice) -> String {
    let (side, other) = (usize::from(praise), usize::from(!praise));
    let aspect = dice.pick(ASPECTS);
    let degree = dice.pick(&["", "", "really ", "rather ", "truly "]);
    let adjective = dice.pick(ADJECTIVES[side]);
    let denied = dice.pick(ADJECTIVES[other]);
    let [_, felt] = dice.pick(VERBS[side]);
    let [unfelt, _] = dice.pick(VERBS[other]);
    // Two in three say it directly: if as many denied the opposite, no word would tell anything by itself.
    match dice.below(20) {
        0..=6 => format!("the {aspect} was {degree}{adjective}"),
        7..=9 => format!("we {felt} the {aspect}"),
        10..=12 => format!("I {degree}{felt} the {aspect}"),
        13 => format!("the {aspect} was not {denied} at all"),
        14 => format!("the {aspect} was never {denied}"),
        15 => format!("the {aspect} was anything but {denied}"),
        16 | 17 => format!("I did not {unfelt} the {aspect}"),
        18 => format!("nobody could {unfelt} the {aspect}"),
        _ => format!("I expected {} {denied} {aspect} and got {} {adjective} one", article(denied), article(adjective)),
    }
}

fn article(next: &str) -> &'static str {
    if next.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
