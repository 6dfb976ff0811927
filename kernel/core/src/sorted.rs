//! The rows of a store into the sums of a read: one row per flow, in the order of its names' bytes.

use crate::flows::FlowRow;
use crate::index::Hashing;
use crate::merge::{Columns, columns_of, fits};
use crate::names::Names;
use crate::rules::NAMES;
use crate::sums::Sums;

/// The rows of a store so far.
pub struct Sorting {
    names: Names,
    rows: Vec<FlowRow>,
    hashing: Hashing,
}

impl Default for Sorting {
    fn default() -> Sorting {
        Sorting { names: Names::new(), rows: Vec::new(), hashing: Hashing::of_process() }
    }
}

impl Sorting {
    /// Adds rows; `None` where a column is not sound.
    pub fn add(&mut self, rows: &Sums<'_>) -> Option<()> {
        self.rows.reserve(rows.rows);
        for row in 0..rows.rows {
            let mut names = [0; NAMES];
            for (number, column) in names.iter_mut().zip(&rows.names) {
                let name = column.get(row)?;
                *number = self.names.number_of(name, self.hashing.of(name))?;
            }
            self.rows.push(FlowRow {
                names,
                hour: rows.hour.get(row)?.try_into().ok()?,
                bytes_rx: rows.bytes_rx(row)?,
                bytes_tx: rows.bytes_tx(row)?,
                ..FlowRow::default()
            });
        }
        Some(())
    }

    /// All of them, summed and sorted; `None` where a sum is too large, a name is not UTF-8, or there
    /// are too many of both.
    pub fn end(self) -> Option<SortedSums> {
        str::from_utf8(self.names.text()).ok()?;
        // One number for each row to compare, and not three texts: the places of its names among
        // all, its hour, and last its own number.
        let places = places_of(&self.names);
        let hours = self.rows.iter().map(|row| row.hour);
        let first_hour = hours.clone().min().unwrap_or(0);
        let hours = (hours.max().unwrap_or(0) - first_hour) as usize + 1;
        let (name_bits, hour_bits) = (bits_for(self.names.len()), bits_for(hours));
        let row_bits = bits_for(self.rows.len());
        let key_bits = NAMES as u32 * name_bits + hour_bits + row_bits;
        let keys = self.rows.iter().zip(0_u128..).map(|(row, number)| {
            let names = row.names.map(|name| u128::from(places[name as usize]));
            let flow = names.iter().fold(0, |key, place| key << name_bits | place);
            (flow << hour_bits | u128::from(row.hour - first_hour)) << row_bits | number
        });
        // Not `sort_unstable`: a store that keeps rows in order has runs of them, which are merged.
        let rows = if key_bits <= u64::BITS {
            let mut keys: Vec<u64> = keys.map(|key| key as u64).collect();
            keys.sort();
            summed(&self.rows, keys.into_iter().map(u128::from), row_bits)?
        } else if key_bits <= u128::BITS {
            let mut keys: Vec<u128> = keys.collect();
            keys.sort();
            summed(&self.rows, keys.into_iter(), row_bits)?
        } else {
            return None;
        };
        rows.iter().all(fits).then_some(SortedSums { names: self.names, rows })
    }
}

/// The sums of a read: one row per flow, in the order of its names' bytes.
pub struct SortedSums {
    pub(crate) names: Names,
    pub(crate) rows: Vec<FlowRow>,
}

impl SortedSums {
    /// How many flows there are.
    pub fn flows(&self) -> usize {
        self.rows.len()
    }

    /// The rows as columns; `records` is not told.
    pub fn columns(&self) -> Vec<Columns> {
        columns_of(&self.names, &self.rows, false)
    }
}

/// The place of each name among all of them in order, by its number.
fn places_of(names: &Names) -> Vec<u32> {
    let mut in_order: Vec<u32> = (0..names.len() as u32).collect();
    in_order.sort_unstable_by_key(|&number| names.get(number));
    let mut places = vec![0; in_order.len()];
    for (&number, place) in in_order.iter().zip(0..) {
        places[number as usize] = place;
    }
    places
}

/// How many bits tell so many things apart.
fn bits_for(things: usize) -> u32 {
    usize::BITS - things.saturating_sub(1).leading_zeros()
}

/// The rows in the order of their keys, those of one flow as one; `None` where a sum overflows.
fn summed(
    rows: &[FlowRow],
    keys: impl Iterator<Item = u128>,
    row_bits: u32,
) -> Option<Vec<FlowRow>> {
    let mut found: Vec<FlowRow> = Vec::with_capacity(rows.len());
    let mut flow_before = None;
    for key in keys {
        let row = rows[(key & ((1 << row_bits) - 1)) as usize];
        let flow = Some(key >> row_bits);
        match found.last_mut() {
            Some(sums) if flow == flow_before => {
                sums.bytes_rx = sums.bytes_rx.checked_add(row.bytes_rx)?;
                sums.bytes_tx = sums.bytes_tx.checked_add(row.bytes_tx)?;
            }
            _ => found.push(row),
        }
        flow_before = flow;
    }
    Some(found)
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
        let mut found = Sorting::default();
        found.add(&Sums {
            rows: names.len(),
            names: [column.clone(), column.clone(), column],
            hour: Integers::U32(&hours),
            bytes_rx: &sums,
            bytes_tx: &sums,
        })?;
        Some(found.end()?.columns())
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
    fn keys_of_more_than_64_bits() {
        let names: Vec<String> = (0..70_000).rev().map(|name| format!("{name:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["00007"]).collect();
        let found = sorted(&names, &vec![u32::MAX; names.len()], &vec![1; names.len()]).unwrap();
        let [rows] = &found[..] else { panic!("one chunk") };
        assert_eq!((rows.hour.len(), rows.hour[7], rows.bytes_rx[7]), (70_000, u32::MAX.into(), 2));
        assert_eq!(rows.bytes_rx.iter().sum::<u128>(), 70_001);
        assert!(rows.names[2].text.starts_with(b"000000000100002"));
        assert!(rows.names[0].text.ends_with(b"6999869999"));
    }

    #[test]
    fn bits_that_tell_things_apart() {
        let bits = [0, 1, 2, 3, 4, 5, 1 << 32, (1 << 32) + 1].map(bits_for);
        assert_eq!(bits, [0, 0, 1, 2, 2, 3, 32, 33]);
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
