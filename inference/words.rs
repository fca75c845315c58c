//! Word pieces of plain texts, word by word: of each word the library is asked once.
//!
//! BERT cuts a text at blanks and around punctuation marks, and then each word by itself; so a word has the same pieces
//! wherever it stands. That holds for texts of ASCII without control characters and without tokens that were added to the
//! vocabulary. All others are left to the library.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Result, Tokenizer};

/// How many words are kept. Those that come later are cut anew each time.
const MOST_WORDS: usize = 1 << 14;
/// So many are looked up under one lock: some microseconds.
const WORDS_AT_A_TIME: usize = 256;
/// In bytes. Longer ones seldom come again.
const LONGEST_WORD: usize = 32;

#[derive(Debug)]
pub(crate) struct Words {
    known: RwLock<HashMap<Box<str>, Box<[u32]>>>,
    /// The characters that added tokens begin with.
    begin_added: String,
}

impl Words {
    /// Nothing where a tokenizer does not cut as BERT's does, or where a word may be an added token.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let cuts_as_bert = matches!(tokenizer.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_)))
            && matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
            && matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_));
        let added = tokenizer.get_added_tokens_decoder();
        let begin_added: String = added.values().filter_map(|token| token.content.chars().next()).collect();
        let are_marks = begin_added.chars().all(|first| first.is_ascii_punctuation());
        (cuts_as_bert && are_marks).then(|| Self { known: RwLock::default(), begin_added })
    }

    /// Whether a text's words can be cut one by one.
    pub(crate) fn can_cut(&self, text: &str) -> bool {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
        text.bytes().all(|byte| is_plain(byte) && !self.begin_added.as_bytes().contains(&byte))
    }

    /// Adds the ids of a text that can be cut, without special tokens.
    pub(crate) fn cut(&self, text: &str, tokenizer: &Tokenizer, ids: &mut Vec<u32>) -> Result<()> {
        let mut new: HashMap<&str, Box<[u32]>> = HashMap::new();
        // A lock that is held for a whole text would keep all others waiting, once one of them wants to write.
        let mut known = self.known();
        for (number, word) in words(text).enumerate() {
            if number % WORDS_AT_A_TIME == WORDS_AT_A_TIME - 1 {
                drop(known);
                known = self.known();
            }
            if let Some(pieces) = known.get(word).or_else(|| new.get(word)) {
                ids.extend(pieces);
                continue;
            }
            drop(known);
            let encoding = tokenizer.encode_fast(word, false)?;
            ids.extend(encoding.get_ids());
            if word.len() <= LONGEST_WORD && new.len() < MOST_WORDS {
                new.insert(word, encoding.get_ids().into());
            }
            known = self.known();
        }
        let room = MOST_WORDS.saturating_sub(known.len());
        drop(known);
        if !new.is_empty() && room > 0 {
            let new = new.into_iter().take(room).map(|(word, pieces)| (word.into(), pieces));
            self.known.write().unwrap_or_else(PoisonError::into_inner).extend(new);
        }
        Ok(())
    }

    fn known(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Box<[u32]>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Words of ASCII, in their order; a punctuation mark is one by itself.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace().flat_map(|mut rest| {
        std::iter::from_fn(move || {
            let end = match rest.find(|char: char| char.is_ascii_punctuation()) {
                Some(0) => 1,
                Some(mark) => mark,
                None => rest.len(),
            };
            let (word, after) = rest.split_at(end);
            rest = after;
            (!word.is_empty()).then_some(word)
        })
    })
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
    fn marks_are_words_and_blanks_are_none() {
        let cut: Vec<&str> = words(" it's\t(so-so)...\n").collect();
        assert_eq!(cut, ["it", "'", "s", "(", "so", "-", "so", ")", ".", ".", "."]);
    }

    #[test]
    fn odd_texts_are_left_to_the_library() {
        let words = Words::of(&tokenizer()).unwrap();
        for odd in ["caf\u{e9}", "a [SEP] b", "a\0b", "a\u{7f}", "\u{b}"] {
            assert!(!words.can_cut(odd), "{odd:?}");
        }
        assert!(words.can_cut("") && words.can_cut("a line\r\nand another"));
        let mut tokenizer = tokenizer();
        tokenizer.add_tokens(&[tokenizers::AddedToken::from("bam", false)]);
        assert!(Words::of(&tokenizer).is_none(), "a word may be a token");
    }

    proptest! {
        #[test]
        fn ids_are_the_librarys(texts in prop::collection::vec("([ -Z\\\\-~]{0,12}|(the|a|of|it|is|not|good|movie|[.,'\\-])[ ]?|[\t\n\r]){0,20}", 1..20)) {
            let tokenizer = tokenizer();
            let words = Words::of(&tokenizer).unwrap();
            for text in &texts {
                prop_assert!(words.can_cut(text));
                let expected = tokenizer.encode_fast(text.as_str(), false).unwrap();
                let mut ids = Vec::new();
                words.cut(text, &tokenizer, &mut ids).unwrap();
                prop_assert_eq!(ids, expected.get_ids());
            }
        }
    }
}
