//! A tally as compact bytes for the journal: the very bytes of `wire/blob.py`.
//!
//! The format is drawn in `docs/internals/tally-blob.md`. Reading believes nothing: the checksum, the
//! sections' sizes, the offsets and the text are checked before a row is looked at.

use std::iter;

use crate::crc::crc32;
use crate::names::Names;
use crate::rules::{NAME_BYTES_MAX, NAMES};
use crate::tally::{Row, Tally};

const MAGIC: &[u8; 2] = b"FT";
const VERSION: u8 = 1;
const WIDE: u8 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// The blob of a tally; `None` where its names' text would need more than 32 bits.
pub fn encode(tally: &Tally) -> Option<Vec<u8>> {
    let rows = tally.rows();
    let Numbered { names, columns } = numbered(tally)?;
    let wide = rows.iter().any(|row| row.bytes_rx.max(row.bytes_tx) > u64::MAX.into());
    let row_bytes = 4 * NAMES + 4 + 8 + if wide { 32 } else { 16 };
    let text_bytes: usize = names.iter().map(|name| name.len()).sum();
    let mut blob = Vec::with_capacity(128 + 4 * names.len() + text_bytes + row_bytes * rows.len());
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&[VERSION, if wide { WIDE } else { 0 }]);
    for number in [rows.len(), names.len(), text_bytes] {
        blob.extend_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
    }
    let mut offset = 0;
    put(
        &mut blob,
        names.len() + 1,
        iter::once([0; 4]).chain(names.iter().map(|name| {
            offset += name.len() as u32;
            offset.to_le_bytes()
        })),
    );
    names.iter().for_each(|name| blob.extend_from_slice(name));
    pad(&mut blob);
    for column in &columns {
        put(&mut blob, rows.len(), column.iter().map(|number| number.to_le_bytes()));
    }
    put(&mut blob, rows.len(), rows.iter().map(|row| row.hour.to_le_bytes()));
    put(&mut blob, rows.len(), rows.iter().map(|row| row.records.to_le_bytes()));
    for value in [|row: &Row| row.bytes_rx, |row: &Row| row.bytes_tx] {
        if wide {
            put(&mut blob, rows.len(), rows.iter().map(|row| value(row).to_le_bytes()));
        } else {
            put(&mut blob, rows.len(), rows.iter().map(|row| (value(row) as u64).to_le_bytes()));
        }
    }
    blob.extend_from_slice(&crc32(&blob).to_le_bytes());
    Some(blob)
}

/// The distinct names of a tally, and the columns of their numbers.
struct Numbered<'t> {
    names: Vec<&'t [u8]>,
    columns: [Vec<u32>; NAMES],
}

/// Numbers the names of a tally: column after column, as the twin does, but looked up row after
/// row, where they stand together.
fn numbered(tally: &Tally) -> Option<Numbered<'_>> {
    let rows = tally.rows();
    let mut found = Names::new();
    let mut columns: [Vec<u32>; NAMES] = std::array::from_fn(|_| Vec::with_capacity(rows.len()));
    let mut texts = Vec::new();
    for row in rows {
        for (column, (name, hash)) in columns.iter_mut().zip(tally.hashed_names(row)) {
            let number = found.number_of(name, hash)?;
            if number as usize == texts.len() {
                texts.push(name);
            }
            column.push(number);
        }
    }
    let mut names = Vec::with_capacity(texts.len());
    let mut numbers = vec![u32::MAX; texts.len()];
    for number in columns.iter_mut().flatten() {
        let text = *number as usize;
        if numbers[text] == u32::MAX {
            numbers[text] = names.len() as u32;
            names.push(texts[text]);
        }
        *number = numbers[text];
    }
    Some(Numbered { names, columns })
}

/// Appends a section of so many values.
fn put<const N: usize>(blob: &mut Vec<u8>, count: usize, values: impl Iterator<Item = [u8; N]>) {
    let start = blob.len();
    blob.resize(start + N * count, 0);
    for (place, value) in blob[start..].as_chunks_mut().0.iter_mut().zip(values) {
        *place = value;
    }
    pad(blob);
}

/// Appends zeros up to a multiple of 8 bytes.
fn pad(blob: &mut Vec<u8>) {
    blob.resize(blob.len().next_multiple_of(8), 0);
}

/// A blob that was checked, and where its columns stand.
#[derive(Debug)]
pub struct Blob<'b> {
    wide: bool,
    offsets: &'b [[u8; 4]],
    text: &'b [u8],
    names: [&'b [[u8; 4]]; NAMES],
    hour: &'b [[u8; 4]],
    records: &'b [[u8; 8]],
    bytes_rx: &'b [u8],
    bytes_tx: &'b [u8],
}

/// One row of a blob; its names as their numbers in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlobRow {
    pub names: [u32; NAMES],
    pub hour: u32,
    pub records: u64,
    pub bytes_rx: u128,
    pub bytes_tx: u128,
}

impl<'b> Blob<'b> {
    /// Reads a blob; `None` where anything is wrong with it.
    pub fn read(blob: &'b [u8]) -> Option<Blob<'b>> {
        let (body, checksum) = blob.split_last_chunk::<CHECKSUM_BYTES>()?;
        let (header, mut rest) = body.split_first_chunk::<HEADER_BYTES>()?;
        let [magic @ .., version, flags] = header.first_chunk::<4>()?;
        let known = magic == MAGIC && *version == VERSION;
        if !known || crc32(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let number = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        let (rows, names, text_bytes) = (number(4), number(8), number(12));
        let wide = flags & WIDE != 0;
        let value_bytes = if wide { 16 } else { 8 };
        let mut section = |size: usize| {
            let (found, after) = rest.split_at_checked(size.next_multiple_of(8))?;
            rest = after;
            found.get(..size)
        };
        let found = Blob {
            wide,
            offsets: section(4 * (names + 1))?.as_chunks().0,
            text: section(text_bytes)?,
            names: [
                section(4 * rows)?.as_chunks().0,
                section(4 * rows)?.as_chunks().0,
                section(4 * rows)?.as_chunks().0,
            ],
            hour: section(4 * rows)?.as_chunks().0,
            records: section(8 * rows)?.as_chunks().0,
            bytes_rx: section(value_bytes * rows)?,
            bytes_tx: section(value_bytes * rows)?,
        };
        (rest.is_empty() && found.names_are_sound()).then_some(found)
    }

    /// Whether the offsets cut the text, all of it, into names of valid UTF-8, none too long.
    fn names_are_sound(&self) -> bool {
        let Ok(text) = str::from_utf8(self.text) else { return false };
        let mut at = 0;
        self.offsets.iter().enumerate().all(|(number, offset)| {
            let before = std::mem::replace(&mut at, u32::from_le_bytes(*offset) as usize);
            let rises = before <= at && at - before <= NAME_BYTES_MAX;
            rises && text.is_char_boundary(at) && (number > 0 || at == 0)
        }) && at == text.len()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.hour.len()
    }

    /// The names, in the order of their numbers.
    pub fn names(&self) -> impl Iterator<Item = &'b [u8]> {
        let text = self.text;
        self.offsets.windows(2).map(move |pair| {
            let [start, end] = [pair[0], pair[1]].map(|offset| u32::from_le_bytes(offset) as usize);
            &text[start..end]
        })
    }

    /// One row. Its names' numbers were not checked.
    #[inline(always)]
    pub fn row(&self, number: usize) -> BlobRow {
        BlobRow {
            names: self.names.map(|column| u32::from_le_bytes(column[number])),
            hour: u32::from_le_bytes(self.hour[number]),
            records: u64::from_le_bytes(self.records[number]),
            bytes_rx: self.value(self.bytes_rx, number),
            bytes_tx: self.value(self.bytes_tx, number),
        }
    }

    #[inline(always)]
    fn value(&self, column: &[u8], number: usize) -> u128 {
        if self.wide {
            u128::from_le_bytes(column.as_chunks().0[number])
        } else {
            u64::from_le_bytes(column.as_chunks().0[number]).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layouts;

    fn blob_of(body: &str) -> Vec<u8> {
        let mut layouts = Layouts::new();
        encode(&crate::decode_array(body.as_bytes(), 10, &mut layouts).unwrap().tally).unwrap()
    }

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        body.extend_from_slice(&crc32(&body).to_le_bytes());
        body
    }

    const BODY: &str = r#"[{"src_app":"é","dest_app":"b","vpc_id":"é","hour":7,"bytes_rx":1,"bytes_tx":2},
        {"src_app":"b","dest_app":"c","vpc_id":"v","hour":7,"bytes_rx":0,"bytes_tx":0}]"#;

    #[test]
    fn a_round_trip() {
        let blob = blob_of(BODY);
        let found = Blob::read(&blob).unwrap();
        let names: Vec<&[u8]> = found.names().collect();
        assert_eq!(names, ["é", "b", "c", "v"].map(str::as_bytes));
        let first = BlobRow { names: [0, 1, 0], hour: 7, records: 1, bytes_rx: 1, bytes_tx: 2 };
        let second = BlobRow { names: [1, 2, 3], hour: 7, records: 1, bytes_rx: 0, bytes_tx: 0 };
        assert_eq!([found.row(0), found.row(1)], [first, second]);
        assert_eq!(Blob::read(&blob_of("[]")).unwrap().rows(), 0);
    }

    #[test]
    fn every_changed_bit_is_found() {
        let blob = blob_of(BODY);
        for at in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Blob::read(&damaged).is_none(), "byte {at}");
            assert!(Blob::read(&blob[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_checksum_alone_is_not_believed() {
        let blob = blob_of(BODY);
        let body = &blob[..blob.len() - CHECKSUM_BYTES];
        let with = |at: usize, value: u32| {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
            sealed(body)
        };
        assert!(Blob::read(&sealed(body.to_vec())).is_some());
        for (at, value) in [(4, u32::MAX), (8, u32::MAX), (12, u32::MAX), (4, 3), (12, 0)] {
            assert!(Blob::read(&with(at, value)).is_none(), "header {at}: {value}");
        }
        for (at, value) in [(16, 1), (20, 1), (20, 9), (20, u32::MAX), (32, 4)] {
            assert!(Blob::read(&with(at, value)).is_none(), "offset {at}: {value}");
        }
        let mut text = body.to_vec();
        text[40] = 0xff;
        assert!(Blob::read(&sealed(text)).is_none());
    }
}
