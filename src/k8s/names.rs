//! Names that Kubernetes takes.

use bam_contract::digest::Digest;

/// Names of Jobs, whose pods carry them as labels, and values of labels are no longer.
const MOST: usize = 63;

/// The name of a stage's Job, a label by RFC 1123: as much of the stage's name as it has room for, and digits of what the
/// Job is, which tell it from others. A Job can't be changed, so another one must have another name.
pub(super) fn name(stage: &str, identity: Digest) -> String {
    let digits = identity.short();
    let room = MOST - "bam--".len() - digits.len();
    let words = ["bam", &cut(stage, room), &digits];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// A text as the value of a label: its ASCII letters, small, and digits, with `-` for what lies between.
pub(crate) fn legal(text: &str) -> String {
    cut(text, MOST)
}

fn cut(text: &str, most: usize) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut legal = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    legal.truncate(most);
    legal.truncate(legal.trim_end_matches('-').len());
    legal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_label(text: &str) -> bool {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.len() <= MOST
            && text.starts_with(is_inner)
            && text.ends_with(is_inner)
            && text.chars().all(|c| c == '-' || is_inner(c))
    }

    #[test]
    fn odd_names() {
        let of = |stage: &str| name(stage, Digest::of(b""));
        assert_eq!(of("teacher@rte"), "bam-teacher-rte-af1349b9");
        assert_eq!(of("-_Student__2-@0.5@a b"), "bam-student-2-0-5-a-b-af1349b9");
        assert_eq!(of("教師"), "bam-af1349b9");
        assert_eq!(of(&"x".repeat(80)), format!("bam-{}-af1349b9", "x".repeat(50)));
        // The cut falls on a `-`.
        assert_eq!(of(&format!("{}@b", "x".repeat(49))), format!("bam-{}-af1349b9", "x".repeat(49)));
        assert_eq!((legal("BERT, großes Modell").as_str(), legal("…").as_str()), ("bert-gro-es-modell", ""));
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_legal_one(stage in any::<String>()) {
            let named = name(&stage, Digest::of(stage.as_bytes()));
            prop_assert!(is_label(&named), "{}", named);
            let label = legal(&stage);
            prop_assert!(label.is_empty() || is_label(&label), "{}", label);
        }
    }
}
