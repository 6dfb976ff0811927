//! A batch summed by flow: rows in order of first appearance, their names in one stretch of bytes.
//!
//! Sums have 128 bits, and a body has fewer than 2^32 records of less than 2^53 bytes: no sum can
//! wrap. A row is one cache line.

use crate::index::{Hashing, Index};
use crate::record::{Record, words_in};
use crate::rules::NAMES;

/// The sums of one flow.
#[derive(Clone, Debug)]
pub struct Row {
    /// Bytes received.
    pub bytes_rx: u128,
    /// Bytes sent.
    pub bytes_tx: u128,
    /// Records summed.
    pub records: u64,
    /// The hour label.
    pub hour: u32,
    /// Where its names begin in the tally's keys, and their sizes in bytes.
    keys_at: u32,
    sizes: [u16; NAMES],
}

/// Records, bytes received and bytes sent of a whole tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Account {
    pub records: u64,
    pub bytes_rx: u128,
    pub bytes_tx: u128,
}

/// The sums of a batch.
#[derive(Debug)]
pub struct Tally {
    rows: Vec<Row>,
    /// The names of all rows, each as whole words: see `record::Name`.
    keys: Vec<[u8; 8]>,
    index: Index,
    hashing: Hashing,
}

/// An index for more rows than this grows as rows come: few flows then stay in the nearest cache.
const INDEX_ROWS_AT_FIRST: usize = 4_096;
/// Room for keys: three names of 8 to 15 bytes.
const WORDS_PER_FLOW: usize = 6;

impl Tally {
    /// An empty tally, with room for so many flows before its rows are moved.
    pub fn with_room(flows: usize) -> Tally {
        Tally {
            rows: Vec::with_capacity(flows),
            keys: Vec::with_capacity(WORDS_PER_FLOW * flows),
            index: Index::with_room(flows.min(INDEX_ROWS_AT_FIRST)),
            hashing: Hashing::of_process(),
        }
    }

    /// How the names of flows are to be hashed.
    #[inline(always)]
    pub fn hashing(&self) -> Hashing {
        self.hashing
    }

    /// Adds one record.
    #[inline(always)]
    pub fn add(&mut self, record: &Record) {
        let [src, dest, vpc] = &record.names;
        let [hour, bytes_rx, bytes_tx] = record.integers;
        let hash = self.hashing.add(src.hash(), dest.hash().rotate_left(32));
        let hash = self.hashing.add(hash, vpc.hash() ^ hour);
        let (rows, keys) = (&self.rows, &self.keys);
        match self.index.find_or_add(hash, |number| is_flow(&rows[number], keys, record)) {
            Some(number) => {
                let row = &mut self.rows[number];
                row.bytes_rx += u128::from(bytes_rx);
                row.bytes_tx += u128::from(bytes_tx);
                row.records += 1;
            }
            None => self.push(record),
        }
    }

    fn push(&mut self, record: &Record) {
        let [hour, bytes_rx, bytes_tx] = record.integers;
        let keys_at = u32::try_from(self.keys.len()).expect("a body has fewer than 2^32 bytes");
        for name in &record.names {
            self.keys.extend_from_slice(name.words());
        }
        self.rows.push(Row {
            bytes_rx: bytes_rx.into(),
            bytes_tx: bytes_tx.into(),
            records: 1,
            hour: hour as u32,
            keys_at,
            sizes: record.names.each_ref().map(|name| name.size() as u16),
        });
    }

    /// The rows, in order of first appearance.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The three names of a row.
    pub fn names(&self, row: &Row) -> [&[u8]; NAMES] {
        self.hashed_names(row).map(|(name, _)| name)
    }

    /// The three names of a row, and their hashes.
    #[inline(always)]
    pub fn hashed_names(&self, row: &Row) -> [(&[u8], u64); NAMES] {
        let mut rest = &self.keys[row.keys_at as usize..];
        row.sizes.map(|size| {
            let size = usize::from(size);
            let (words, after) = rest.split_at(words_in(size));
            rest = after;
            (&words.as_flattened()[..size], self.hashing.of_words(words))
        })
    }

    /// What the tally adds to the ledger.
    pub fn account(&self) -> Account {
        self.rows.iter().fold(Account::default(), |total, row| Account {
            records: total.records + row.records,
            bytes_rx: total.bytes_rx + row.bytes_rx,
            bytes_tx: total.bytes_tx + row.bytes_tx,
        })
    }
}

/// Whether a row is of the record's flow. Different names have different words, whatever follows, so
/// that sizes need not be compared.
#[inline(always)]
fn is_flow(row: &Row, keys: &[[u8; 8]], record: &Record) -> bool {
    let mut at = row.keys_at as usize;
    for name in &record.names {
        for word in name.words() {
            if keys.get(at) != Some(word) {
                return false;
            }
            at += 1;
        }
    }
    u64::from(row.hour) == record.integers[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tally: &mut Tally, names: [&str; 3], hour: u32, bytes_rx: u64, bytes_tx: u64) {
        let integers = [hour.into(), bytes_rx, bytes_tx];
        let mut record = Record { integers, ..Record::default() };
        for (name, text) in record.names.iter_mut().zip(names) {
            name.set(text.as_bytes(), &tally.hashing());
        }
        tally.add(&record);
    }

    #[test]
    fn flows_are_told_apart_by_every_part() {
        let mut tally = Tally::with_room(0);
        let flows = [
            (["a", "b", "v"], 1),
            (["b", "a", "v"], 1),
            (["ab", "b", "v"], 1),
            (["a", "b", "v2345678"], 1),
            (["a", "b", "v23456789"], 1),
            (["a", "b", "w"], 1),
            (["a", "b", "v"], 2),
        ];
        for _ in 0..2 {
            for (names, hour) in flows {
                add(&mut tally, names, hour, 3, 4);
            }
        }
        assert_eq!(tally.rows().len(), flows.len());
        for (row, (names, hour)) in tally.rows().iter().zip(flows) {
            assert_eq!(tally.names(row), names.map(str::as_bytes));
            assert_eq!((row.hour, row.bytes_rx, row.bytes_tx, row.records), (hour, 6, 8, 2));
        }
        assert_eq!(tally.account(), Account { records: 14, bytes_rx: 42, bytes_tx: 56 });
    }

    #[test]
    fn sums_do_not_wrap() {
        let mut tally = Tally::with_room(1);
        for _ in 0..5_000 {
            add(&mut tally, ["a", "b", "v"], 0, (1 << 53) - 1, 0);
        }
        assert_eq!(tally.account().bytes_rx, 5_000 * ((1 << 53) - 1));
    }

    #[test]
    fn a_row_is_a_cache_line() {
        assert_eq!(size_of::<Row>(), 64);
    }
}
