//! Many tallies, as blobs, into one set of columns: what the applier appends to its store.
//!
//! Names become numbers first, one look-up for each name of a blob and not for each row; rows then
//! meet under numbers. Where the batches' arrival hours are told, flows are summed apart by them.

use std::collections::BTreeMap;

use crate::blob::{Blob, BlobRow};
use crate::index::{Hashing, Index};
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
    let mut rows = Rows::new();
    let mut merged = Merged::default();
    for (number, blob) in blobs.iter().enumerate() {
        let arrival_hour = arrival_hours.map_or(0, |hours| hours[number]);
        let blob = Blob::read(blob)?;
        let before = rows.sums.len();
        let names: Vec<u32> =
            blob.names().map(|name| rows.number_of(name)).collect::<Option<_>>()?;
        let mut hour_before = None;
        for row in 0..blob.rows() {
            let mut new = blob.row(row);
            for name in &mut new.names {
                *name = *names.get(*name as usize)?;
            }
            rows.add(new, arrival_hour)?;
            if hour_before != Some(new.hour) {
                merged.hours.insert(new.hour, number);
                hour_before = Some(new.hour);
            }
        }
        if arrival_hours.is_some() {
            *merged.arrival_hours.entry(arrival_hour).or_default() += rows.sums.len() - before;
        }
    }
    merged.chunks = rows.into_columns(arrival_hours.is_some())?;
    Some(merged)
}

/// The rows merged so far.
struct Rows {
    names: Names,
    sums: Vec<(BlobRow, i64)>,
    index: Index,
    hashing: Hashing,
}

impl Rows {
    fn new() -> Rows {
        Rows {
            names: Names::new(),
            sums: Vec::new(),
            index: Index::default(),
            hashing: Hashing::of_process(),
        }
    }

    fn number_of(&mut self, name: &[u8]) -> Option<u32> {
        self.names.number_of(name, self.hashing.of(name))
    }

    /// Adds a row, its names numbered as in `names`; `None` where a sum overflows.
    #[inline(always)]
    fn add(&mut self, new: BlobRow, arrival_hour: i64) -> Option<()> {
        let [src, dest, vpc] = new.names.map(u64::from);
        let hash = self.hashing.add(self.hashing.begin(), src | dest << 32);
        let hash = self.hashing.add(hash, vpc | u64::from(new.hour) << 32);
        let hash = self.hashing.add(hash, arrival_hour as u64);
        let rows = &self.sums;
        let found = self.index.find_or_add(hash, |number| {
            let (row, of) = &rows[number];
            row.names == new.names && row.hour == new.hour && *of == arrival_hour
        });
        let Some(number) = found else {
            self.sums.push((new, arrival_hour));
            return Some(());
        };
        let row = &mut self.sums[number].0;
        row.bytes_rx = row.bytes_rx.checked_add(new.bytes_rx)?;
        row.bytes_tx = row.bytes_tx.checked_add(new.bytes_tx)?;
        row.records = row.records.checked_add(new.records)?;
        Some(())
    }

    fn into_columns(self, told: bool) -> Option<Vec<Columns>> {
        let fits = |(row, _): &(BlobRow, i64)| {
            row.bytes_rx.max(row.bytes_tx) <= SUM_MAX && i64::try_from(row.records).is_ok()
        };
        if !self.sums.iter().all(fits) {
            return None;
        }
        Some(self.sums.chunks(CHUNK_ROWS).map(|rows| self.columns(rows, told)).collect())
    }

    fn columns(&self, rows: &[(BlobRow, i64)], told: bool) -> Columns {
        Columns {
            names: std::array::from_fn(|column| {
                let mut found = Text::default();
                found.offsets.reserve_exact(rows.len());
                for (row, _) in rows {
                    found.text.extend_from_slice(self.names.get(row.names[column]));
                    found.offsets.push(found.text.len() as i32);
                }
                found
            }),
            hour: rows.iter().map(|(row, _)| row.hour.into()).collect(),
            bytes_rx: rows.iter().map(|(row, _)| row.bytes_rx).collect(),
            bytes_tx: rows.iter().map(|(row, _)| row.bytes_tx).collect(),
            records: rows.iter().map(|(row, _)| row.records as i64).collect(),
            arrival_hour: told
                .then(|| rows.iter().map(|(_, arrival_hour)| *arrival_hour).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::encode;
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
        encode(&decode_array(body.as_bytes(), 100, &mut Layouts::new()).unwrap().tally).unwrap()
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
