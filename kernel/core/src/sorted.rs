//! The rows of a store into the sums of a read: one row per flow, in the order of its names' bytes.

use crate::flows::{FlowRow, Flows};
use crate::merge::{Columns, into_columns};
use crate::rules::NAMES;
use crate::sums::Sums;

/// The sums of some rows so far.
pub struct Sorted {
    flows: Flows,
}

impl Default for Sorted {
    fn default() -> Sorted {
        Sorted { flows: Flows::with_room(0) }
    }
}

impl Sorted {
    /// Adds rows; `None` where a column is not sound, or a sum too large.
    pub fn add(&mut self, rows: &Sums<'_>) -> Option<()> {
        for row in 0..rows.rows {
            let mut names = [0; NAMES];
            for (number, column) in names.iter_mut().zip(&rows.names) {
                *number = self.flows.number_of(column.get(row)?)?;
            }
            self.flows.add(FlowRow {
                names,
                hour: rows.hour.get(row)?.try_into().ok()?,
                bytes_rx: rows.bytes_rx(row)?,
                bytes_tx: rows.bytes_tx(row)?,
                ..FlowRow::default()
            })?;
        }
        Some(())
    }

    /// All of them, sorted; `records` is not told. `None` where a name is not UTF-8.
    pub fn end(self) -> Option<Vec<Columns>> {
        let Sorted { mut flows } = self;
        str::from_utf8(flows.names.text()).ok()?;
        let mut in_order: Vec<u32> = (0..flows.names.len() as u32).collect();
        in_order.sort_unstable_by_key(|&number| flows.names.get(number));
        let mut places = vec![0_u32; in_order.len()];
        for (place, &number) in in_order.iter().enumerate() {
            places[number as usize] = place as u32;
        }
        // One number for each row to compare, and not three texts.
        let mut keys: Vec<(u128, u32)> = Vec::with_capacity(flows.rows.len());
        for (row, number) in flows.rows.iter().zip(0..) {
            let [src, dest, vpc] = row.names.map(|name| u128::from(places[name as usize]));
            keys.push((src << 96 | dest << 64 | vpc << 32 | u128::from(row.hour), number));
        }
        keys.sort_unstable();
        flows.rows = keys.iter().map(|&(_, number)| flows.rows[number as usize]).collect();
        into_columns(flows, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Integers, Strings};

    fn sorted(names: &[&str], hours: &[u32], sums: &[u128]) -> Option<Vec<Columns>> {
        let mut at = 0;
        let mut offsets = vec![[0; 4]];
        offsets.extend(names.iter().map(|name| {
            at += name.len() as i32;
            at.to_le_bytes()
        }));
        let text = names.concat();
        let column = Strings::Short(&offsets, text.as_bytes());
        let hours: Vec<[u8; 4]> = hours.iter().map(|hour| hour.to_le_bytes()).collect();
        let sums: Vec<[u8; 16]> = sums.iter().map(|sum| sum.to_le_bytes()).collect();
        let mut found = Sorted::default();
        found.add(&Sums {
            rows: names.len(),
            names: [column.clone(), column.clone(), column],
            hour: Integers::U32(&hours),
            bytes_rx: &sums,
            bytes_tx: &sums,
        })?;
        found.end()
    }

    #[test]
    fn flows_are_summed_and_in_the_order_of_bytes() {
        let names = ["é", "b", "a\u{10ffff}", "b", "a", "\u{e000}", "b"];
        let found = sorted(&names, &[1, 1, 1, 1, 1, 1, 0], &[1, 2, 3, 4, 5, 6, 7]).unwrap();
        let [rows] = &found[..] else { panic!("one chunk") };
        assert_eq!(rows.names[0].text, "aa\u{10ffff}bbé\u{e000}".as_bytes());
        assert_eq!(rows.bytes_rx, [5, 3, 7, 6, 1, 6]);
        assert_eq!(rows.hour, [1, 1, 0, 1, 1, 1]);
        assert!(sorted(&[], &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_too_large_or_missing_is_declined() {
        let most = 10_u128.pow(38) - 1;
        assert!(sorted(&["a", "a"], &[1, 1], &[most, 0]).is_some());
        assert!(sorted(&["a", "a"], &[1, 1], &[most, 1]).is_none());
        assert!(sorted(&["a"], &[1], &[u128::MAX]).is_none());
        assert!(sorted(&["a", "b"], &[1], &[1, 1]).is_none());
    }
}
