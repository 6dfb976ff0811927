//! Tallies as compact bytes for the journal: the very bytes of `wire/blob.py`.
//!
//! The format is drawn in `docs/internals/tally-blob.md`. Reading believes nothing: the checksum, the
//! sections' sizes, the offsets and the text are checked before a row is looked at.

use crc32fast::hash as crc32;

use crate::flows::{FlowRow, Flows};
use crate::names::Names;
use crate::rules::{NAME_BYTES_MAX, NAMES};
use crate::tally::Tally;

const MAGIC: &[u8; 2] = b"FT";
const VERSION: u8 = 2;
const HEADER_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 4;

/// What a blob is made of.
#[derive(Debug)]
pub enum Source<'s> {
    /// The rows of a tally.
    Tally(&'s Tally),
    /// The rows of another blob.
    Blob(Blob<'s>),
}

/// One blob of the sums of all sources; `None` where a sum overflows, or their names' text would
/// need more than 32 bits.
pub fn encode(sources: &[Source<'_>]) -> Option<Vec<u8>> {
    let room = sources.iter().map(Source::rows).sum();
    let mut flows = Flows::with_room(room);
    // The flows of one source are distinct: nothing can meet.
    let distinct = sources.len() == 1;
    for source in sources {
        source.for_each(&mut flows, |flows, row| {
            if distinct {
                flows.rows.push(row);
                return Some(());
            }
            flows.add(row)
        })?;
    }
    write(&flows.names, &flows.rows)
}

impl Source<'_> {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        match self {
            Source::Tally(tally) => tally.rows().len(),
            Source::Blob(blob) => blob.rows(),
        }
    }

    /// Gives every row, its names numbered as `flows` does, until one is declined.
    fn for_each(
        &self,
        flows: &mut Flows,
        mut give: impl FnMut(&mut Flows, FlowRow) -> Option<()>,
    ) -> Option<()> {
        match self {
            Source::Tally(tally) => {
                for row in tally.rows() {
                    let mut names = [0; NAMES];
                    for (number, (name, hash)) in names.iter_mut().zip(tally.hashed_names(row)) {
                        *number = flows.names.number_of(name, hash)?;
                    }
                    let row = FlowRow {
                        names,
                        hour: row.hour,
                        records: row.records,
                        arrival_hour: 0,
                        bytes_rx: row.bytes_rx,
                        bytes_tx: row.bytes_tx,
                    };
                    give(flows, row)?;
                }
            }
            Source::Blob(blob) => {
                let names = blob.numbers_in(flows)?;
                for number in 0..blob.rows() {
                    give(flows, blob.row_as(number, &names)?)?;
                }
            }
        }
        Some(())
    }
}

fn write(names: &Names, rows: &[FlowRow]) -> Option<Vec<u8>> {
    let hour_least = rows.iter().map(|row| row.hour).min().unwrap_or(0);
    let records_least = rows.iter().map(|row| row.records).min().unwrap_or(0);
    let most = |value: fn(&FlowRow) -> u128| rows.iter().map(value).max().unwrap_or(0);
    let widths = [
        width_of((names.len() as u128).saturating_sub(1)),
        width_of(most(|row| row.hour.into()) - u128::from(hour_least)),
        width_of(most(|row| row.records.into()) - u128::from(records_least)),
        width_of(most(|row| row.bytes_rx)),
        width_of(most(|row| row.bytes_tx)),
    ];
    let [of_name, of_hour, of_records, of_rx, of_tx] = widths;
    let text = names.text();
    let row_bytes = NAMES * of_name + of_hour + of_records + of_rx + of_tx;
    let mut blob = Vec::with_capacity(
        HEADER_BYTES + 4 * names.len() + text.len() + row_bytes * rows.len() + 128,
    );
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&[VERSION, 0]);
    for number in [rows.len(), names.len(), text.len()] {
        blob.extend_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
    }
    blob.extend_from_slice(&hour_least.to_le_bytes());
    blob.extend(widths.map(|width| width as u8));
    blob.extend_from_slice(&[0; 7]);
    blob.extend_from_slice(&records_least.to_le_bytes());
    names.offsets().iter().for_each(|offset| blob.extend_from_slice(&offset.to_le_bytes()));
    pad(&mut blob);
    blob.extend_from_slice(text);
    pad(&mut blob);
    for column in 0..NAMES {
        put(&mut blob, of_name, rows, |row| row.names[column].into());
    }
    put(&mut blob, of_hour, rows, |row| (row.hour - hour_least).into());
    put(&mut blob, of_records, rows, |row| (row.records - records_least).into());
    put(&mut blob, of_rx, rows, |row| row.bytes_rx);
    put(&mut blob, of_tx, rows, |row| row.bytes_tx);
    blob.extend_from_slice(&crc32(&blob).to_le_bytes());
    Some(blob)
}

/// How many bytes hold every number up to this one: none where that is 0.
fn width_of(most: u128) -> usize {
    match most {
        0 => 0,
        1..0x100 => 1,
        0x100..0x1_0000 => 2,
        0x1_0000..0x1_0000_0000 => 4,
        0x1_0000_0000..0x1_0000_0000_0000_0000 => 8,
        _ => 16,
    }
}

/// Appends a column, each value in so many bytes.
fn put(blob: &mut Vec<u8>, width: usize, rows: &[FlowRow], value: impl Fn(&FlowRow) -> u128) {
    match width {
        0 => {}
        1 => put_wide(blob, rows, |row| (value(row) as u8).to_le_bytes()),
        2 => put_wide(blob, rows, |row| (value(row) as u16).to_le_bytes()),
        4 => put_wide(blob, rows, |row| (value(row) as u32).to_le_bytes()),
        8 => put_wide(blob, rows, |row| (value(row) as u64).to_le_bytes()),
        _ => put_wide(blob, rows, |row| value(row).to_le_bytes()),
    }
}

fn put_wide<const N: usize>(
    blob: &mut Vec<u8>,
    rows: &[FlowRow],
    value: impl Fn(&FlowRow) -> [u8; N],
) {
    let start = blob.len();
    blob.resize(start + N * rows.len(), 0);
    for (place, row) in blob[start..].as_chunks_mut().0.iter_mut().zip(rows) {
        *place = value(row);
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
    rows: usize,
    hour_least: u32,
    records_least: u64,
    offsets: &'b [[u8; 4]],
    text: &'b [u8],
    names: [Column<'b>; NAMES],
    hour: Column<'b>,
    records: Column<'b>,
    bytes_rx: Column<'b>,
    bytes_tx: Column<'b>,
}

/// A column, by the bytes that each of its values has.
#[derive(Clone, Copy, Debug)]
enum Column<'b> {
    Zeros,
    U8(&'b [u8]),
    U16(&'b [[u8; 2]]),
    U32(&'b [[u8; 4]]),
    U64(&'b [[u8; 8]]),
    U128(&'b [[u8; 16]]),
}

impl<'b> Column<'b> {
    /// The column in a section; `None` where values have another width.
    fn of(section: &'b [u8], width: usize) -> Option<Column<'b>> {
        Some(match width {
            0 => Column::Zeros,
            1 => Column::U8(section),
            2 => Column::U16(section.as_chunks().0),
            4 => Column::U32(section.as_chunks().0),
            8 => Column::U64(section.as_chunks().0),
            16 => Column::U128(section.as_chunks().0),
            _ => return None,
        })
    }

    #[inline(always)]
    fn get(&self, row: usize) -> u128 {
        match self {
            Column::Zeros => 0,
            Column::U8(values) => values[row].into(),
            Column::U16(values) => u16::from_le_bytes(values[row]).into(),
            Column::U32(values) => u32::from_le_bytes(values[row]).into(),
            Column::U64(values) => u64::from_le_bytes(values[row]).into(),
            Column::U128(values) => u128::from_le_bytes(values[row]),
        }
    }
}

impl<'b> Blob<'b> {
    /// Reads a blob; `None` where anything is wrong with it.
    pub fn read(blob: &'b [u8]) -> Option<Blob<'b>> {
        let (body, checksum) = blob.split_last_chunk::<CHECKSUM_BYTES>()?;
        let (header, mut rest) = body.split_first_chunk::<HEADER_BYTES>()?;
        let [magic @ .., version, _] = header.first_chunk::<4>()?;
        let known = magic == MAGIC && *version == VERSION;
        if !known || crc32(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let number = |at: usize| Some(u32::from_le_bytes(*header[at..].first_chunk()?));
        let size = |at: usize| Some(number(at)? as usize);
        let (rows, names, text_bytes) = (size(4)?, size(8)?, size(12)?);
        let widths: [u8; 5] = *header[20..].first_chunk()?;
        let [of_name, of_hour, of_records, of_rx, of_tx] = widths.map(usize::from);
        // Rows are different flows, so that no more than one can do without a name and an hour. A
        // few bytes could else say that they hold four billion rows, and somebody would count them.
        if rows > 1 && of_name == 0 && of_hour == 0 {
            return None;
        }
        let mut section = |size: usize| {
            let (found, after) = rest.split_at_checked(size.next_multiple_of(8))?;
            rest = after;
            found.get(..size)
        };
        let offsets = section(4 * (names + 1))?.as_chunks().0;
        let text = section(text_bytes)?;
        let mut column = |width: usize| Column::of(section(width * rows)?, width);
        let found = Blob {
            rows,
            hour_least: number(16)?,
            records_least: u64::from_le_bytes(*header[32..].first_chunk()?),
            offsets,
            text,
            names: [column(of_name)?, column(of_name)?, column(of_name)?],
            hour: column(of_hour)?,
            records: column(of_records)?,
            bytes_rx: column(of_rx)?,
            bytes_tx: column(of_tx)?,
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
        self.rows
    }

    /// The names, in the order of their numbers.
    pub fn names(&self) -> impl Iterator<Item = &'b [u8]> {
        let text = self.text;
        self.offsets.windows(2).map(move |pair| {
            let [start, end] = [pair[0], pair[1]].map(|offset| u32::from_le_bytes(offset) as usize);
            &text[start..end]
        })
    }

    /// What the names' numbers are among `flows`, where they may be new.
    pub(crate) fn numbers_in(&self, flows: &mut Flows) -> Option<Vec<u32>> {
        self.names().map(|name| flows.number_of(name)).collect()
    }

    /// One row, its names numbered by a table; `None` where it has a name that is not in the table,
    /// or a number that is too large.
    #[inline(always)]
    pub(crate) fn row_as(&self, row: usize, numbers: &[u32]) -> Option<FlowRow> {
        let mut names = [0; NAMES];
        for (number, column) in names.iter_mut().zip(&self.names) {
            *number = *numbers.get(column.get(row) as usize)?;
        }
        let hour = u32::try_from(self.hour.get(row)).ok()?.checked_add(self.hour_least)?;
        let records = u64::try_from(self.records.get(row)).ok()?.checked_add(self.records_least)?;
        Some(FlowRow {
            names,
            hour,
            records,
            arrival_hour: 0,
            bytes_rx: self.bytes_rx.get(row),
            bytes_tx: self.bytes_tx.get(row),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoded;
    use crate::layout::Layouts;

    fn decoded(body: &str) -> Decoded {
        crate::decode_array(body.as_bytes(), 10, &mut Layouts::new()).unwrap()
    }

    fn blob_of(body: &str) -> Vec<u8> {
        encode(&[Source::Tally(&decoded(body).tally)]).unwrap()
    }

    fn rows_of(blob: &[u8]) -> Vec<FlowRow> {
        let blob = Blob::read(blob).unwrap();
        let numbers: Vec<u32> = (0..blob.names().count() as u32).collect();
        (0..blob.rows()).map(|row| blob.row_as(row, &numbers).unwrap()).collect()
    }

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        body.extend_from_slice(&crc32(&body).to_le_bytes());
        body
    }

    const BODY: &str = r#"[{"src_app":"é","dest_app":"b","vpc_id":"é","hour":7,"bytes_rx":1,"bytes_tx":2},
        {"src_app":"b","dest_app":"c","vpc_id":"v","hour":9,"bytes_rx":0,"bytes_tx":70000}]"#;

    #[test]
    fn a_round_trip() {
        let blob = blob_of(BODY);
        let names: Vec<&[u8]> = Blob::read(&blob).unwrap().names().collect();
        assert_eq!(names, ["é", "b", "c", "v"].map(str::as_bytes));
        let first = FlowRow {
            names: [0, 1, 0],
            hour: 7,
            records: 1,
            bytes_rx: 1,
            bytes_tx: 2,
            ..FlowRow::default()
        };
        let second = FlowRow {
            names: [1, 2, 3],
            hour: 9,
            bytes_rx: 0,
            bytes_tx: 70_000,
            ..first
        };
        assert_eq!(rows_of(&blob), [first, second]);
        assert!(rows_of(&blob_of("[]")).is_empty());
    }

    #[test]
    fn sources_of_both_kinds_are_summed() {
        let one = decoded(BODY);
        let other = blob_of(BODY);
        let both = [Source::Tally(&one.tally), Source::Blob(Blob::read(&other).unwrap())];
        let rows = rows_of(&encode(&both).unwrap());
        let sums: Vec<(u64, u128)> = rows.iter().map(|row| (row.records, row.bytes_tx)).collect();
        assert_eq!(sums, [(2, 4), (2, 140_000)]);
        assert_eq!(encode(&[Source::Blob(Blob::read(&other).unwrap())]).unwrap(), other);
    }

    #[test]
    fn every_width_is_read_as_it_was_written() {
        for most in [0, 1, 0xff, 0x100, 0xffff, 1 << 16, 1 << 32, 1 << 64, u128::MAX] {
            let mut names = Names::new();
            names.number_of(b"a", 0).unwrap();
            let row = FlowRow { records: 5, hour: 3, bytes_rx: most, ..FlowRow::default() };
            let rows = [row, FlowRow { hour: 4, bytes_rx: 0, bytes_tx: most, ..row }];
            assert_eq!(rows_of(&write(&names, &rows).unwrap()), rows);
        }
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
        for (at, value) in [(4, u32::MAX), (8, u32::MAX), (12, u32::MAX), (4, 9), (12, 0)] {
            assert!(Blob::read(&with(at, value)).is_none(), "header {at}: {value}");
        }
        for (at, value) in [(40, 1), (44, 1), (44, 9), (44, u32::MAX), (56, 4)] {
            assert!(Blob::read(&with(at, value)).is_none(), "offset {at}: {value}");
        }
        assert!(Blob::read(&with(20, 3)).is_none(), "a width of 3");
        let mut text = body.to_vec();
        text[64] = 0xff;
        assert!(Blob::read(&sealed(text)).is_none());
    }

    #[test]
    fn rows_that_take_no_room_are_not_believed() {
        // Found by the fuzzer: 50 bytes that were read for a minute.
        let blob = blob_of("[]");
        let mut body = blob[..blob.len() - CHECKSUM_BYTES].to_vec();
        for (rows, sound) in [(0_u32, true), (1, true), (2, false), (u32::MAX, false)] {
            body[4..8].copy_from_slice(&rows.to_le_bytes());
            assert_eq!(Blob::read(&sealed(body.clone())).is_some(), sound, "{rows} rows");
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_declined() {
        let blob = blob_of(BODY);
        let body = &blob[..blob.len() - CHECKSUM_BYTES];
        for (at, value) in [(16, u32::MAX), (36, u32::MAX)] {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let blob = sealed(body);
            let blob = Blob::read(&blob).unwrap();
            let read = |row| blob.row_as(row, &[0, 1, 2, 3]);
            assert!(at == 36 || read(1).is_none());
            assert!((0..2).all(|row| blob.row_as(row, &[]).is_none()));
        }
    }
}
