//! Rows whose names are numbers, summed where their flows meet.
//!
//! What blobs are made of, and what they are merged in: a name is looked up once wherever it comes
//! from, and rows then meet under numbers.

use crate::index::{Hashing, Index};
use crate::names::Names;
use crate::rules::NAMES;

/// The sums of one flow, its names as their numbers. A row is one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FlowRow {
    pub names: [u32; NAMES],
    pub hour: u32,
    pub records: u64,
    /// Flows are summed apart by it; 0 where it is not told.
    pub arrival_hour: i64,
    pub bytes_rx: u128,
    pub bytes_tx: u128,
}

/// The rows so far, in order of first appearance.
pub(crate) struct Flows {
    pub names: Names,
    pub rows: Vec<FlowRow>,
    index: Index,
    hashing: Hashing,
}

impl Flows {
    /// None yet, with room for so many before they are moved.
    pub fn with_room(rows: usize) -> Flows {
        Flows {
            names: Names::new(),
            rows: Vec::with_capacity(rows),
            index: Index::default(),
            hashing: Hashing::of_process(),
        }
    }

    /// The number of a name; `None` where there is no room for its text.
    pub fn number_of(&mut self, name: &[u8]) -> Option<u32> {
        self.names.number_of(name, self.hashing.of(name))
    }

    /// Adds a row to the one of its flow, if there is one; `None` where a sum overflows.
    #[inline(always)]
    pub fn add(&mut self, new: FlowRow) -> Option<()> {
        let [src, dest, vpc] = new.names.map(u64::from);
        let hash = self.hashing.add(self.hashing.begin(), src | dest << 32);
        let hash = self.hashing.add(hash, vpc | u64::from(new.hour) << 32);
        let hash = self.hashing.add(hash, new.arrival_hour as u64);
        let rows = &self.rows;
        let found = self.index.find_or_add(hash, |number| {
            let row = &rows[number];
            row.names == new.names && row.hour == new.hour && row.arrival_hour == new.arrival_hour
        });
        let Some(number) = found else {
            self.rows.push(new);
            return Some(());
        };
        let row = &mut self.rows[number];
        row.bytes_rx = row.bytes_rx.checked_add(new.bytes_rx)?;
        row.bytes_tx = row.bytes_tx.checked_add(new.bytes_tx)?;
        row.records = row.records.checked_add(new.records)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_meet_and_stay_apart() {
        let mut flows = Flows::with_room(0);
        let row = FlowRow { names: [0, 1, 2], hour: 3, records: 1, ..FlowRow::default() };
        let others = [
            FlowRow { names: [1, 0, 2], ..row },
            FlowRow { hour: 4, ..row },
            FlowRow { arrival_hour: 1, ..row },
        ];
        for new in [row, others[0], others[1], others[2], row] {
            flows.add(new).unwrap();
        }
        let summed: Vec<u64> = flows.rows.iter().map(|row| row.records).collect();
        assert_eq!(summed, [2, 1, 1, 1]);
    }

    #[test]
    fn a_sum_that_overflows_is_declined() {
        let mut flows = Flows::with_room(0);
        let row = FlowRow { bytes_rx: u128::MAX, ..FlowRow::default() };
        assert!(flows.add(row).is_some());
        assert!(flows.add(FlowRow { bytes_rx: 1, ..row }).is_none());
    }

    #[test]
    fn a_row_is_a_cache_line() {
        assert_eq!(size_of::<FlowRow>(), 64);
    }
}
