//! Blobs written: each column as narrow as its largest value lets it be.

use crc32fast::hash as crc32;

use super::{Blob, HEADER_BYTES, MAGIC, VERSION};
use crate::flows::{FlowRow, Flows};
use crate::names::Names;
use crate::rules::NAMES;
use crate::tally::Tally;

/// What a blob is made of.
#[derive(Debug)]
pub enum Source<'s> {
    /// The rows of a tally.
    Tally(&'s Tally),
    /// The rows of another blob; apart, for a tally needs a thirtieth of its room.
    Blob(Box<Blob<'s>>),
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

/// The blob of rows and the names that they are numbered by; `None` where a size needs more than 32 bits.
pub(super) fn write(names: &Names, rows: &[FlowRow]) -> Option<Vec<u8>> {
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
