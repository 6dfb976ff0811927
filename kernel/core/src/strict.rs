//! The strict reader: it owns every rule of a record's JSON (RFC 8259) and takes nothing on trust.
//!
//! One byte after the other, and no code shared with the fast reader but the table of fields. The
//! body is valid UTF-8 already. `None` is "declined", wherever it comes from. Memory: what an
//! escaped string unfolds to, which is shorter than its text; depth: [`UNKNOWN_DEPTH_MAX`].

use std::borrow::Cow;
use std::ops::Range;

use crate::rules::{Field, INTEGERS, NAMES, UNKNOWN_DEPTH_MAX, name_is_good};

/// A value that may change from record to record while the text around it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The value of a known field.
    Known(Field),
    /// A string of an unknown field.
    UnknownText,
    /// A number of an unknown field.
    UnknownNumber,
}

/// More values than this are not noted: such a record is unlike any that is sent often.
pub const PLACES_MAX: usize = 12;

/// A record as it was read.
#[derive(Debug)]
pub struct Reading<'b> {
    /// `src_app`, `dest_app` and `vpc_id`, their escapes undone.
    pub names: [Cow<'b, [u8]>; NAMES],
    /// `hour`, `bytes_rx` and `bytes_tx`.
    pub integers: [u64; INTEGERS],
    /// Where the values that may change stand, strings without their quotes, in rising order.
    pub places: Places,
    /// Where the record ends, after its closing brace.
    pub end: usize,
}

/// What a record's values are and where they stand.
#[derive(Debug)]
pub struct Places {
    noted: [(Slot, Range<usize>); PLACES_MAX],
    count: usize,
}

impl Places {
    fn new() -> Places {
        Places { noted: std::array::from_fn(|_| (Slot::UnknownText, 0..0)), count: 0 }
    }

    fn note(&mut self, slot: Slot, place: Range<usize>) {
        if let Some(next) = self.noted.get_mut(self.count) {
            *next = (slot, place);
        }
        self.count += 1;
    }

    /// All of them; `None` where there are more than were noted.
    pub fn all(&self) -> Option<&[(Slot, Range<usize>)]> {
        self.noted.get(..self.count)
    }
}

/// A place in a body.
#[derive(Debug)]
pub struct Reader<'b> {
    body: &'b [u8],
    at: usize,
    newline_is_space: bool,
}

impl<'b> Reader<'b> {
    /// A reader that begins at a byte. In NDJSON a newline ends the record and is no white space.
    pub fn new(body: &'b [u8], at: usize, newline_is_space: bool) -> Reader<'b> {
        Reader { body, at, newline_is_space }
    }

    /// The record that begins here.
    pub fn record(&mut self) -> Option<Reading<'b>> {
        let mut names: [Option<Cow<'b, [u8]>>; NAMES] = Default::default();
        let mut integers = [None; INTEGERS];
        let mut places = Places::new();
        self.expect(b'{')?;
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let start = self.at;
            match Field::of(&key) {
                Some(field) if field.is_name() => {
                    let name = self.string().filter(|name| name_is_good(name))?;
                    places.note(Slot::Known(field), start + 1..self.at - 1);
                    let place = &mut names[field as usize];
                    if place.replace(name).is_some() {
                        return None;
                    }
                }
                Some(field) => {
                    let (number, max) = field.integer();
                    let integer = self.integer(max)?;
                    places.note(Slot::Known(field), start..self.at);
                    let place = &mut integers[number];
                    if place.replace(integer).is_some() {
                        return None;
                    }
                }
                None => {
                    let first = self.peek()?;
                    self.value(UNKNOWN_DEPTH_MAX)?;
                    match first {
                        b'"' => places.note(Slot::UnknownText, start + 1..self.at - 1),
                        b'-' | b'0'..=b'9' => places.note(Slot::UnknownNumber, start..self.at),
                        _ => {}
                    }
                }
            }
            self.skip_space();
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        let [Some(src), Some(dest), Some(vpc)] = names else { return None };
        let [Some(hour), Some(rx), Some(tx)] = integers else { return None };
        Some(Reading { names: [src, dest, vpc], integers: [hour, rx, tx], places, end: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_space(&mut self) {
        self.at = after_space(self.body, self.at, self.newline_is_space);
    }

    /// A string, its escapes undone.
    fn string(&mut self) -> Option<Cow<'b, [u8]>> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return Some(Cow::Borrowed(&self.body[start..self.at - 1])),
                b'\\' => break,
                0..0x20 => return None,
                _ => {}
            }
        }
        self.at -= 1;
        let mut text = self.body[start..self.at].to_vec();
        loop {
            match self.next()? {
                b'"' => return Some(Cow::Owned(text)),
                b'\\' => {
                    let character = self.escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..0x20 => return None,
                byte => text.push(byte),
            }
        }
    }

    /// The character of an escape, after its backslash.
    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four_hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    // The second half of a pair, standing alone, is no character either.
                    return char::from_u32(first);
                }
                self.expect(b'\\')?;
                self.expect(b'u')?;
                let second = self.four_hex()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return None;
                }
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
            }
            _ => return None,
        })
    }

    fn four_hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |value, _| Some(value << 4 | char::from(self.next()?).to_digit(16)?))
    }

    /// An integer from 0 to `max`, written as one: no sign, fraction, exponent or needless zero.
    fn integer(&mut self, max: u64) -> Option<u64> {
        let start = self.at;
        let mut value = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            if value > max {
                return None;
            }
            self.at += 1;
        }
        let digits = self.at - start;
        let goes_on = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        let needless_zero = digits > 1 && self.body[start] == b'0';
        (digits > 0 && !goes_on && !needless_zero).then_some(value)
    }

    /// Passes over the value of an unknown field.
    fn value(&mut self, depth_left: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.members(b'}', depth_left.checked_sub(1)?),
            b'[' => self.members(b']', depth_left.checked_sub(1)?),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// Passes over an array, or an object: its values have keys.
    fn members(&mut self, close: u8, depth_left: usize) -> Option<()> {
        self.at += 1;
        self.skip_space();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            if close == b'}' {
                self.string()?;
                self.skip_space();
                self.expect(b':')?;
                self.skip_space();
            }
            self.value(depth_left)?;
            self.skip_space();
            match self.next()? {
                b',' => self.skip_space(),
                byte => return (byte == close).then_some(()),
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let found = self.body[self.at..].starts_with(word);
        self.at += word.len();
        found.then_some(())
    }

    /// Passes over a number of any size and form, and says where it ends.
    pub fn end_of_number(mut self) -> Option<usize> {
        self.number()?;
        Some(self.at)
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// The first byte from a position that is no white space.
#[inline]
pub fn after_space(body: &[u8], mut at: usize, newline_is_space: bool) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = body.get(at) {
        if body[at] == b'\n' && !newline_is_space {
            break;
        }
        at += 1;
    }
    at
}
