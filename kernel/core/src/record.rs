//! One record on its way from a body into a tally: a buffer that both readers fill.
//!
//! A name is held as words of eight bytes, the last one filled up with zeros: so it is scanned, hashed,
//! compared and copied a word at a time. The last word is never full (a name of 8 bytes has a second
//! word of zeros), and no name holds a zero, so that different names have different words, also
//! where several stand one after the other.

use crate::index::Hashing;
use crate::rules::{INTEGERS, NAME_BYTES_MAX, NAMES, holds_c1};
use crate::scan::{below, is_beyond_ascii, load, stops_of};

const WORDS_MAX: usize = words_in(NAME_BYTES_MAX);

/// How many words a name of some bytes takes.
pub const fn words_in(size: usize) -> usize {
    size / 8 + 1
}

/// The values of a record, which keep all rules.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// `src_app`, `dest_app` and `vpc_id`.
    pub names: [Name; NAMES],
    /// `hour`, `bytes_rx` and `bytes_tx`.
    pub integers: [u64; INTEGERS],
}

/// A good name, and its hash.
#[derive(Clone, Debug)]
pub struct Name {
    words: [[u8; 8]; WORDS_MAX],
    size: usize,
    hash: u64,
}

impl Default for Name {
    fn default() -> Name {
        Name { words: [[0; 8]; WORDS_MAX], size: 0, hash: 0 }
    }
}

impl Name {
    /// Its words.
    #[inline(always)]
    pub fn words(&self) -> &[[u8; 8]] {
        &self.words[..words_in(self.size).min(WORDS_MAX)]
    }

    /// How many bytes it has.
    #[inline(always)]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its hash.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes a name that is known to be good.
    pub fn set(&mut self, name: &[u8], hashing: &Hashing) {
        self.size = name.len();
        for (number, word) in self.words[..words_in(name.len())].iter_mut().enumerate() {
            *word = load(name, 8 * number).to_le_bytes();
        }
        self.hash = hashing.of(name);
    }

    /// Takes the name that begins at a byte of a body, which is valid UTF-8, and returns where its
    /// closing quote stands. `None` where it is not plain or not good.
    #[inline(always)]
    pub fn scan(&mut self, body: &[u8], start: usize, hashing: &Hashing) -> Option<usize> {
        let mut at = start;
        let mut hash = hashing.begin();
        let mut seen = 0;
        // More words than a name has end the loop without a stop.
        for place in &mut self.words {
            let word = load(body, at);
            seen |= word;
            let stops = stops_of(word);
            if stops == 0 {
                *place = word.to_le_bytes();
                hash = hashing.add(hash, word);
                at += 8;
                continue;
            }
            let (count, mask) = below(stops);
            *place = (word & mask).to_le_bytes();
            self.hash = hashing.add(hash, word & mask);
            at += count;
            self.size = at - start;
            let sized = self.size.wrapping_sub(1) < NAME_BYTES_MAX;
            let ends = body.get(at) == Some(&b'"');
            // What stands after the name, within its last word, may set this off: it costs time only.
            let good = !is_beyond_ascii(seen) || !holds_c1(&body[start..at]);
            return (sized && ends && good).then_some(at);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        let hashing = Hashing::fixed();
        let longest = "n".repeat(256);
        for text in ["a", "abcdefg", "abcdefgh", "abcdefghi", "é", "x\u{a0}", "😀😀😀", &longest]
        {
            let (mut scanned, mut set) = (Name::default(), Name::default());
            assert_eq!(
                scanned.scan(format!("{text}\",é").as_bytes(), 0, &hashing),
                Some(text.len())
            );
            set.set(text.as_bytes(), &hashing);
            assert_eq!(scanned.words(), set.words());
            assert_eq!((scanned.size(), scanned.hash()), (set.size(), set.hash()));
            assert_eq!(set.words().as_flattened()[..text.len()], *text.as_bytes());
            assert_eq!(scanned.scan(text.as_bytes(), 0, &hashing), None, "{text} is cut off");
        }
    }

    #[test]
    fn names_that_are_not_plain_or_not_good() {
        let hashing = Hashing::fixed();
        let too_long = ["n".repeat(257), "n".repeat(263), "n".repeat(264), "n".repeat(1_000)];
        let bad = ["", "a\\n", "a\t", "\u{7f}", "abcdefgh\u{1f}", "a\u{85}", "abcdefg\u{9f}", "\0"];
        for text in bad.into_iter().chain(too_long.iter().map(String::as_str)) {
            let body = format!("{text}\"");
            assert_eq!(Name::default().scan(body.as_bytes(), 0, &hashing), None, "{text:?}");
        }
    }
}
