//! Blobs read. Nothing is believed: the checksum, the sections' sizes, the offsets and the text are
//! checked before a row is looked at.

use crc32fast::hash as crc32;

use super::{CHECKSUM_BYTES, HEADER_BYTES, MAGIC, VERSION};
use crate::flows::{FlowRow, Flows};
use crate::rules::{NAME_BYTES_MAX, NAMES};

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
