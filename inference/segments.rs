//! Large texts in segments that can be cut into word pieces one after another: the library takes some hundred bytes for each
//! character that it cuts at a time.

use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// How large segments are at least, in bytes.
pub(crate) const SEGMENT_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Segments {
    /// ASCII characters after which a text's word pieces don't depend on what came before.
    ends: Vec<u8>,
}

impl Segments {
    /// BERT's tokenizer cuts at blanks and around marks, so a text may end after either, unless an added token holds the mark or
    /// takes the blanks beside it. Of an added token that isn't plain ASCII, and of other tokenizers, it isn't known what they
    /// look at. An underscore is a mark to BERT and a letter to tokens that stand for words.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        let cuts_as_bert = matches!(tokenizer.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_)))
            && matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
        let added = tokenizer.get_added_tokens_decoder();
        let is_plain = |token: &AddedToken| {
            !token.lstrip && !token.rstrip && token.content.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let is_end = |byte: &u8| {
            let is_mark = byte.is_ascii_punctuation() && *byte != b'_';
            (is_mark || matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
                && !added.values().any(|token| token.content.as_bytes().contains(byte))
        };
        let has_ends = cuts_as_bert && added.values().all(is_plain);
        let ends = if has_ends { (0..128).filter(is_end).collect() } else { Vec::new() };
        Self { ends }
    }

    /// A text in its order, in segments of at least so many bytes, and of little more where it has blanks or marks. One at
    /// least, though the text is empty.
    pub(crate) fn cut<'a>(&self, text: &'a str, least_bytes: usize) -> impl Iterator<Item = &'a str> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest?;
            let after = text.as_bytes().get(least_bytes..).unwrap_or_default();
            let end = after.iter().position(|byte| self.ends.contains(byte)).map(|end| least_bytes + end + 1);
            // All ends are ASCII, so that a character begins after one.
            let (segment, after) = end.map_or((text, ""), |end| text.split_at(end));
            rest = Some(after).filter(|after| !after.is_empty());
            Some(segment)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-bert/tokenizer.json"))
            .unwrap()
    }

    #[test]
    fn segments_end_after_blanks_and_marks_that_no_added_token_has() {
        let segments = Segments::of(&tokenizer());
        let cut = |text: &'static str, least| segments.cut(text, least).collect::<Vec<_>>();
        assert_eq!(cut("one, two", 2), ["one,", " two"]);
        assert_eq!(cut("a [SEP] b", 2), ["a [SEP] ", "b"]);
        assert_eq!(cut("\u{e9}\u{e9}\u{e9}\n\u{e9}", 1), ["\u{e9}\u{e9}\u{e9}\n", "\u{e9}"]);
        assert_eq!((cut("", 2), cut("nothing", 3), cut("so.", 2)), (vec![""], vec!["nothing"], vec!["so."]));
    }

    #[test]
    fn texts_stay_whole_where_an_added_token_may_look_beyond_an_end() {
        let count = |token: AddedToken, text: &str| {
            let mut tokenizer = tokenizer();
            tokenizer.add_tokens(&[token]);
            Segments::of(&tokenizer).cut(text, 1).count()
        };
        let plain = |content: &str| AddedToken::from(content, false);
        assert_eq!(count(plain("bam"), "a, b_bam. c"), 3);
        assert_eq!(count(plain("a.b"), "a.b c"), 2);
        for token in [
            plain("two words"),
            plain("a\u{2260}b"),
            plain("a\u{a0}b"),
            plain("<x>").lstrip(true),
            plain("<x>").rstrip(true),
        ] {
            assert_eq!(count(token, "two\twords, a=b <x> "), 1);
        }
    }

    proptest! {
        #[test]
        fn segments_have_the_pieces_of_the_whole(
            text in "([ -~]{0,12}|\\PC{0,6}|x_bam|(the|bam|a\\.b|not|good|[SEP]|\\[SEP\\]|e\u{301}|=\u{338}|\u{3a3}|\u{3002}|\u{4e00})[ ]?|[ \t\n\r\u{a0}\0]){0,20}",
            least_bytes in 0_usize..20,
        ) {
            let mut tokenizer = tokenizer();
            tokenizer.add_tokens(&[AddedToken::from("bam", false).single_word(true), AddedToken::from("a.b", false)]);
            let segments = Segments::of(&tokenizer);
            let pieces = |text: &str, before: usize| -> Vec<(u32, (usize, usize))> {
                let encoding = tokenizer.encode_char_offsets(text, false).unwrap();
                let places = encoding.get_offsets().iter().map(|(start, end)| (before + start, before + end));
                encoding.get_ids().iter().copied().zip(places).collect()
            };
            let mut before = 0;
            let mut found = Vec::new();
            for segment in segments.cut(&text, least_bytes) {
                found.extend(pieces(segment, before));
                before += segment.chars().count();
            }
            prop_assert_eq!(found, pieces(&text, 0));
        }
    }
}
