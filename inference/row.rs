//! How one or two texts become a row: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to fit.

use crate::word_pieces::WordPieces;

/// A row's ids, and how many tokens were cut off.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub input_ids: Vec<u32>,
    pub token_type_ids: Vec<u32>,
    pub lost: usize,
    /// How many tokens are left of the text, and of the second one.
    pub kept: [usize; 2],
}

/// The row of a text's ids, or of a pair's, with at most `max_tokens` tokens in all.
pub fn row(text: &[u32], pair: Option<&[u32]>, max_tokens: usize, special: &WordPieces) -> Row {
    let (cls, sep) = (special.cls_id, special.sep_id);
    let Some(pair) = pair else {
        let kept = text.len().min(max_tokens - 2);
        let input_ids = [&[cls], &text[..kept], &[sep]].concat();
        let token_type_ids = vec![0; input_ids.len()];
        return Row { input_ids, token_type_ids, lost: text.len() - kept, kept: [kept, 0] };
    };
    let (kept_text, kept_pair) = longest_first(text.len(), pair.len(), max_tokens - 3);
    let input_ids = [&[cls], &text[..kept_text], &[sep], &pair[..kept_pair], &[sep]].concat();
    let token_type_ids = [vec![0; kept_text + 2], vec![1; kept_pair + 1]].concat();
    let lost = text.len() + pair.len() - kept_text - kept_pair;
    Row { input_ids, token_type_ids, lost, kept: [kept_text, kept_pair] }
}

/// How many tokens of each text stay within `room`. The longer is cut, down to the shorter; from there on both are, to half
/// each, of which the longer has the greater, the second where they are equal. So `longest_first` of Hugging Face's fast
/// tokenizers has it. (BERT's own code gives the odd token to the first text.)
fn longest_first(text: usize, pair: usize, room: usize) -> (usize, usize) {
    let [less, more] = [text.min(pair), text.max(pair)];
    let [less, more] = if less + more <= room {
        [less, more]
    } else if 2 * less <= room {
        [less, room - less]
    } else {
        [room / 2, room - room / 2]
    };
    if text > pair { (more, less) } else { (less, more) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hand_worked_cuts() {
        for (text, pair, room, kept) in [
            (3, 4, 7, (3, 4)),
            (3, 4, 6, (3, 3)),
            (4, 4, 7, (3, 4)),
            (4, 4, 6, (3, 3)),
            (10, 10, 13, (6, 7)),
            (20, 2, 13, (11, 2)),
            (2, 20, 13, (2, 11)),
            (9, 20, 13, (6, 7)),
            (20, 9, 13, (7, 6)),
            (0, 20, 13, (0, 13)),
        ] {
            assert_eq!(longest_first(text, pair, room), kept, "{text} + {pair} into {room}");
        }
    }

    /// Against the tokenizers library's cuts, dumped by `tests/fixtures/make_truncation.py`.
    #[test]
    fn cuts_equal_those_of_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/truncation.json");
        let cases: Vec<[usize; 5]> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() > 50, "{}", cases.len());
        for [text, pair, max_tokens, kept_text, kept_pair] in cases {
            let kept = longest_first(text, pair, max_tokens - 3);
            assert_eq!(kept, (kept_text, kept_pair), "{text} + {pair} into {max_tokens}");
        }
    }

    proptest! {
        #[test]
        fn the_longer_side_loses(text in 0_usize..300, pair in 0_usize..300, room in 2_usize..200) {
            let (kept_text, kept_pair) = longest_first(text, pair, room);
            prop_assert_eq!(kept_text + kept_pair, room.min(text + pair));
            prop_assert!(kept_text <= text && kept_pair <= pair);
            // A side that lost is at most one shorter than the other: it was the longer until then.
            prop_assert!(kept_text == text || kept_text + 1 >= kept_pair);
            prop_assert!(kept_pair == pair || kept_pair + 1 >= kept_text);
            let (turned_pair, turned_text) = longest_first(pair, text, room);
            prop_assert!(text == pair || (kept_text, kept_pair) == (turned_text, turned_pair), "it goes by length alone");
        }
    }
}
