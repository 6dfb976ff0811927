//! The fast reader: it repeats what the strict one learnt from a record before.
//!
//! Senders write all their records alike: only some values change. A `Layout` is the constant text
//! around the values of a record that the strict reader accepted. Where a record has the same text,
//! and its values are plain (a string without escapes, a run of digits), the strict reader would find
//! the same tokens in it and accept it too. At any doubt the layout does not fit, and the strict
//! reader reads the record. Unknown fields that hold text or a number may change like known ones;
//! other values of unknown fields are taken for constant text.

use crate::index::Hashing;
use crate::record::Record;
use crate::scan::{end_of_plain_text, load, load_two, plain_integer};
use crate::strict::{Reader, Reading, Slot};

/// How many layouts are remembered: few senders share a thread at a time.
const LAYOUTS_MAX: usize = 4;
/// How many layouts one body may teach: records in ever new orders would only push out good ones.
const LEARNT_PER_BODY_MAX: usize = 8;
/// The longest constant text remembered of a record: memory is bounded whatever is sent.
const TEXT_MAX: usize = 2_048;

/// A stretch of constant text: its first 16 bytes as two words with a mask, and what follows.
#[derive(Clone, Debug)]
struct Constant {
    words: [u64; 2],
    masks: [u64; 2],
    size: usize,
    rest: Box<[u8]>,
}

impl Constant {
    fn new(text: &[u8]) -> Constant {
        let mask = |from: usize| match text.len().saturating_sub(from) {
            0 => 0,
            size @ 1..8 => (1 << (8 * size)) - 1,
            _ => u64::MAX,
        };
        let masks = [mask(0), mask(8)];
        Constant {
            words: [load(text, 0) & masks[0], load(text, 8) & masks[1]],
            masks,
            size: text.len(),
            rest: text.get(16..).unwrap_or_default().into(),
        }
    }

    /// Where the constant ends, if it stands at a position.
    #[inline(always)]
    fn after(&self, body: &[u8], at: usize) -> Option<usize> {
        let [first, second] = load_two(body, at);
        let first = (first & self.masks[0]) ^ self.words[0];
        let second = (second & self.masks[1]) ^ self.words[1];
        let end = at + self.size;
        // No text of JSON holds a zero, so the zeros that stand for what is past the end differ.
        let fits = first | second == 0 && (self.rest.is_empty() || self.rest_fits(body, at, end));
        fits.then_some(end)
    }

    fn rest_fits(&self, body: &[u8], at: usize, end: usize) -> bool {
        body.get(at + 16..end).is_some_and(|text| *text == *self.rest)
    }
}

/// The constant text of a record: what stands before each value that may change, and after the last.
#[derive(Clone, Debug)]
struct Layout {
    before: Box<[(Constant, Slot)]>,
    after: Constant,
}

impl Layout {
    fn of(body: &[u8], start: usize, reading: &Reading) -> Option<Layout> {
        let mut at = start;
        let before = reading.places.all()?.iter().map(|(slot, place)| {
            let constant = Constant::new(&body[at..place.start]);
            at = place.end;
            (constant, *slot)
        });
        Some(Layout { before: before.collect(), after: Constant::new(&body[at..reading.end]) })
    }

    /// Whether a record that was read strictly has this layout.
    fn is_of(&self, body: &[u8], start: usize, reading: &Reading) -> bool {
        let Some(places) = reading.places.all() else { return false };
        let mut at = start;
        self.before.len() == places.len()
            && self.before.iter().zip(places).all(|((constant, slot), (found, place))| {
                let fits = slot == found && constant.after(body, at) == Some(place.start);
                at = place.end;
                fits
            })
            && self.after.after(body, at) == Some(reading.end)
    }

    /// Fills `record` and returns where it ends; what it holds where the layout does not fit means
    /// nothing.
    #[inline(always)]
    fn read(
        &self,
        body: &[u8],
        start: usize,
        hashing: &Hashing,
        record: &mut Record,
    ) -> Option<usize> {
        let mut at = start;
        for (constant, slot) in &self.before {
            at = constant.after(body, at)?;
            match slot {
                Slot::Known(field) if field.is_name() => {
                    at = record.names[*field as usize].scan(body, at, hashing)?;
                }
                Slot::Known(field) => {
                    let (number, max) = field.integer();
                    (record.integers[number], at) = plain_integer(body, at, max)?;
                }
                Slot::UnknownText => at = end_of_plain_text(body, at)?,
                Slot::UnknownNumber => at = Reader::new(body, at, false).end_of_number()?,
            }
        }
        self.after.after(body, at)
    }
}

/// The layouts met lately, the one in use first asked. Kept between bodies: a body of one record
/// teaches nothing to itself.
#[derive(Debug, Default)]
pub struct Layouts {
    known: Vec<Layout>,
    in_use: usize,
    replaced: usize,
    learnt: usize,
}

impl Layouts {
    /// None yet.
    pub const fn new() -> Layouts {
        Layouts { known: Vec::new(), in_use: 0, replaced: 0, learnt: 0 }
    }

    /// Another body begins.
    pub fn begin_body(&mut self) {
        self.learnt = 0;
    }

    /// Fills `record` with what begins at `start` and returns where it ends, if a layout fits it.
    #[inline(always)]
    pub fn read(
        &mut self,
        body: &[u8],
        start: usize,
        hashing: &Hashing,
        record: &mut Record,
    ) -> Option<usize> {
        let end = self.known.get(self.in_use)?.read(body, start, hashing, record);
        if end.is_some() { end } else { self.read_by_another(body, start, hashing, record) }
    }

    #[inline(never)]
    fn read_by_another(
        &mut self,
        body: &[u8],
        start: usize,
        hashing: &Hashing,
        record: &mut Record,
    ) -> Option<usize> {
        for (number, layout) in self.known.iter().enumerate() {
            if number == self.in_use {
                continue;
            }
            if let Some(end) = layout.read(body, start, hashing, record) {
                self.in_use = number;
                return Some(end);
            }
        }
        None
    }

    /// Remembers the layout of a record that the strict reader accepted.
    pub fn learn(&mut self, body: &[u8], start: usize, reading: &Reading) {
        if let Some(number) = self.known.iter().position(|known| known.is_of(body, start, reading))
        {
            // Its values were not plain; the next ones may be.
            self.in_use = number;
            return;
        }
        if self.learnt == LEARNT_PER_BODY_MAX || reading.end - start > TEXT_MAX {
            return;
        }
        let Some(layout) = Layout::of(body, start, reading) else { return };
        self.learnt += 1;
        if self.known.len() < LAYOUTS_MAX {
            self.in_use = self.known.len();
            self.known.push(layout);
        } else {
            self.in_use = self.replaced;
            self.known[self.replaced] = layout;
            self.replaced = (self.replaced + 1) % LAYOUTS_MAX;
        }
    }
}
