//! Bodies: a JSON array of records, or NDJSON, one record a line.

use crate::layout::Layouts;
use crate::record::Record;
use crate::rules::is_too_much;
use crate::strict::{Reader, after_space};
use crate::tally::Tally;

/// What a body says.
#[derive(Debug)]
pub struct Decoded {
    /// The sums.
    pub tally: Tally,
    /// How many records there were.
    pub records: usize,
}

/// Sums a JSON array of records; `None` where it is declined. `layouts` are those of arrays.
pub fn decode_array(body: &[u8], records_max: usize, layouts: &mut Layouts) -> Option<Decoded> {
    let mut records = Records::<true>::begin(body, records_max, layouts)?;
    let mut at = records.after_space(0);
    if body.get(at) != Some(&b'[') {
        return None;
    }
    at = records.after_space(at + 1);
    if body.get(at) == Some(&b']') {
        return records.end(at + 1);
    }
    loop {
        at = records.add(at)?;
        if let Some(b",{") = body.get(at..at + 2) {
            at += 1;
            continue;
        }
        at = records.after_space(at);
        match body.get(at) {
            Some(b',') => at = records.after_space(at + 1),
            Some(b']') => return records.end(at + 1),
            _ => return None,
        }
    }
}

/// Sums NDJSON: one record a line, the last newline optional, no empty line; `None` where it is
/// declined. `layouts` are those of lines: one learnt from an array may hold newlines.
pub fn decode_lines(body: &[u8], records_max: usize, layouts: &mut Layouts) -> Option<Decoded> {
    let mut records = Records::<false>::begin(body, records_max, layouts)?;
    let mut at = 0;
    while at < body.len() {
        at = records.after_space(at);
        at = records.add(at)?;
        at = records.after_space(at);
        match body.get(at) {
            Some(b'\n') => at += 1,
            Some(_) => return None,
            None => break,
        }
    }
    records.end(at)
}

/// The records read so far of a body, in which a newline is white space or not.
struct Records<'b, 'l, const NEWLINE_IS_SPACE: bool> {
    body: &'b [u8],
    records_max: usize,
    layouts: &'l mut Layouts,
    record: Record,
    tally: Tally,
    count: usize,
}

/// A guess of how long a record is, to make room for as many: half of that is usual.
const RECORD_BYTES: usize = 128;

impl<'b, 'l, const NEWLINE_IS_SPACE: bool> Records<'b, 'l, NEWLINE_IS_SPACE> {
    fn begin(body: &'b [u8], records_max: usize, layouts: &'l mut Layouts) -> Option<Self> {
        let small_enough = u32::try_from(body.len()).is_ok() && u32::try_from(records_max).is_ok();
        if !small_enough || str::from_utf8(body).is_err() || is_too_much(body, records_max) {
            return None;
        }
        layouts.begin_body();
        let room = (body.len() / RECORD_BYTES + 1).min(records_max);
        let tally = Tally::with_room(room);
        Some(Records { body, records_max, layouts, record: Record::default(), tally, count: 0 })
    }

    #[inline(always)]
    fn after_space(&self, at: usize) -> usize {
        after_space(self.body, at, NEWLINE_IS_SPACE)
    }

    /// Adds the record that begins at a byte; returns where it ends.
    #[inline(always)]
    fn add(&mut self, start: usize) -> Option<usize> {
        if self.count == self.records_max {
            return None;
        }
        self.count += 1;
        let hashing = self.tally.hashing();
        let Some(end) = self.layouts.read(self.body, start, &hashing, &mut self.record) else {
            return self.add_strictly(start);
        };
        self.tally.add(&self.record);
        Some(end)
    }

    #[inline(never)]
    fn add_strictly(&mut self, start: usize) -> Option<usize> {
        let reading = Reader::new(self.body, start, NEWLINE_IS_SPACE).record()?;
        let hashing = self.tally.hashing();
        for (name, found) in self.record.names.iter_mut().zip(&reading.names) {
            name.set(found, &hashing);
        }
        self.record.integers = reading.integers;
        self.tally.add(&self.record);
        self.layouts.learn(self.body, start, &reading);
        Some(reading.end)
    }

    /// What was read, if nothing but white space follows.
    fn end(self, at: usize) -> Option<Decoded> {
        let at_end = self.after_space(at) == self.body.len();
        at_end.then_some(Decoded { tally: self.tally, records: self.count })
    }
}
