//! Many tallies, as blobs, into one set of columns: what the applier appends to its store.
//!
//! Names become numbers first, one look-up for each name of a blob and not for each row; rows then
//! meet under numbers. Where the batches' arrival hours are told, flows are summed apart by them.

use std::collections::BTreeMap;

use crate::blob::Blob;
use crate::flows::{FlowRow, Flows};
use crate::names::Names;
use crate::rules::NAMES;

/// The largest sum that decimal128(38, 0) holds.
const SUM_MAX: u128 = 10_u128.pow(38) - 1;
/// Rows in one chunk of columns. Names have at most 256 bytes, so that a chunk's text stays far
/// below what 32-bit offsets reach.
const CHUNK_ROWS: usize = 1 << 17;

/// What several tallies sum to.
#[derive(Debug, Default)]
pub struct Merged {
    /// The rows, in order of first appearance.
    pub chunks: Vec<Columns>,
    /// Each hour label that is touched, and the last blob that touches it, counted from 0.
    pub hours: BTreeMap<u32, usize>,
    /// Each arrival hour, and how many rows it has.
    pub arrival_hours: BTreeMap<i64, usize>,
}

/// Some of the merged rows, column by column, as Arrow lays them out.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Columns {
    pub names: [Text; NAMES],
    pub hour: Vec<i64>,
    pub bytes_rx: Vec<u128>,
    pub bytes_tx: Vec<u128>,
    pub records: Vec<i64>,
    /// Where arrival hours were told.
    pub arrival_hour: Option<Vec<i64>>,
}

/// A column of strings: where each one begins in their text, and where the last one ends.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Text {
    pub offsets: Vec<i32>,
    pub text: Vec<u8>,
}

impl Default for Text {
    fn default() -> Text {
        Text { offsets: vec![0], text: Vec::new() }
    }
}

/// Merges blobs; `arrival_hours` has one for each of them, or is not told. `None` where a blob is
/// damaged or a sum is too large.
pub fn merge(blobs: &[&[u8]], arrival_hours: Option<&[i64]>) -> Option<Merged> {
    if arrival_hours.is_some_and(|hours| hours.len() != blobs.len()) {
        return None;
    }
    let mut flows = Flows::with_room(0);
    let mut merged = Merged::default();
    for (number, blob) in blobs.iter().enumerate() {
        let arrival_hour = arrival_hours.map_or(0, |hours| hours[number]);
        let blob = Blob::read(blob)?;
        let before = flows.rows.len();
        let names = blob.numbers_in(&mut flows)?;
        let mut hour_before = None;
        for row in 0..blob.rows() {
            let new = FlowRow { arrival_hour, ..blob.row_as(row, &names)? };
            flows.add(new)?;
            if hour_before != Some(new.hour) {
                merged.hours.insert(new.hour, number);
                hour_before = Some(new.hour);
            }
        }
        if arrival_hours.is_some() {
            *merged.arrival_hours.entry(arrival_hour).or_default() += flows.rows.len() - before;
        }
    }
    if !flows.rows.iter().all(fits) {
        return None;
    }
    merged.chunks = columns_of(&flows.names, &flows.rows, arrival_hours.is_some());
    Some(merged)
}

/// Whether the sums of a row fit into columns.
pub(crate) fn fits(row: &FlowRow) -> bool {
    row.bytes_rx.max(row.bytes_tx) <= SUM_MAX && i64::try_from(row.records).is_ok()
}

/// Rows that fit, as columns.
pub(crate) fn columns_of(names: &Names, rows: &[FlowRow], told: bool) -> Vec<Columns> {
    rows.chunks(CHUNK_ROWS).map(|rows| columns(names, rows, told)).collect()
}

fn columns(names: &Names, rows: &[FlowRow], told: bool) -> Columns {
    Columns {
        names: std::array::from_fn(|column| {
            let mut found = Text::default();
            found.offsets.reserve_exact(rows.len());
            for row in rows {
                found.text.extend_from_slice(names.get(row.names[column]));
                found.offsets.push(found.text.len() as i32);
            }
            found
        }),
        hour: rows.iter().map(|row| row.hour.into()).collect(),
        bytes_rx: rows.iter().map(|row| row.bytes_rx).collect(),
        bytes_tx: rows.iter().map(|row| row.bytes_tx).collect(),
        records: rows.iter().map(|row| row.records as i64).collect(),
        arrival_hour: told.then(|| rows.iter().map(|row| row.arrival_hour).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::{Source, encode};
    use crate::{Layouts, decode_array};

    fn blob_of(flows: &[(&str, u64)]) -> Vec<u8> {
        let records: Vec<String> = flows
            .iter()
            .map(|(name, bytes)| {
                format!(
                    r#"{{"src_app":"{name}","dest_app":"b","vpc_id":"v","hour":1,"bytes_rx":{bytes},"bytes_tx":0}}"#
                )
            })
            .collect();
        let body = format!("[{}]", records.join(","));
        let decoded = decode_array(body.as_bytes(), 100, &mut Layouts::new()).unwrap();
        encode(&[Source::Tally(&decoded.tally)]).unwrap()
    }

    #[test]
    fn flows_of_several_blobs_meet() {
        let blobs = [blob_of(&[("a", 1), ("é", 2)]), blob_of(&[]), blob_of(&[("é", 3), ("c", 4)])];
        let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        let merged = merge(&blobs, None).unwrap();
        let [rows] = &merged.chunks[..] else { panic!("one chunk") };
        assert_eq!(rows.names[0].text, "aéc".as_bytes());
        assert_eq!(rows.names[0].offsets, [0, 1, 3, 4]);
        assert_eq!(rows.bytes_rx, [1, 5, 4]);
        assert_eq!(rows.records, [1, 2, 1]);
        assert!(rows.arrival_hour.is_none() && merged.arrival_hours.is_empty());
        assert_eq!(merged.hours, BTreeMap::from([(1, 2)]));
        assert!(merge(&[], None).unwrap().chunks.is_empty());
    }

    #[test]
    fn arrival_hours_stay_apart() {
        let blobs = [blob_of(&[("a", 1)]), blob_of(&[("a", 2)]), blob_of(&[("a", 4)])];
        let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        let merged = merge(&blobs, Some(&[5, 6, 5])).unwrap();
        assert_eq!(merged.chunks[0].bytes_rx, [5, 2]);
        assert_eq!(merged.chunks[0].arrival_hour, Some(vec![5, 6]));
        assert_eq!(merged.arrival_hours, BTreeMap::from([(5, 1), (6, 1)]));
        assert!(merge(&blobs, Some(&[5])).is_none());
    }

    #[test]
    fn damage_is_declined() {
        let blob = blob_of(&[("a", 1)]);
        assert!(merge(&[&blob, &blob[1..]], None).is_none());
    }
}
