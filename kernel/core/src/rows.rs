//! Records that come in columns, by the same rules as those of a JSON body.

use crate::body::Decoded;
use crate::columns::{Integers, Strings};
use crate::record::{Record, words_in};
use crate::rules::{Field, INTEGERS, NAME_BYTES_MAX, NAMES, name_is_good};
use crate::tally::Tally;

/// Some records: the columns of their names and of their integers, in the order of their fields.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Batch<'a> {
    pub rows: usize,
    pub names: [Strings<'a>; NAMES],
    pub integers: [Integers<'a>; INTEGERS],
}

/// The records of several batches, as far as they were read.
#[derive(Debug)]
pub struct Rows {
    records_max: usize,
    record: Record,
    decoded: Decoded,
}

/// What the names of a record take in a tally, which counts them with 32 bits.
const WORDS_PER_RECORD_MAX: usize = NAMES * words_in(NAME_BYTES_MAX);

impl Rows {
    /// None yet.
    pub fn new(records_max: usize) -> Rows {
        let decoded = Decoded { tally: Tally::with_room(0), records: 0 };
        Rows { records_max, record: Record::default(), decoded }
    }

    /// Adds a batch; `None` where it is declined.
    pub fn add(&mut self, batch: &Batch<'_>) -> Option<()> {
        let records = self.decoded.records.checked_add(batch.rows)?;
        let words = records.checked_mul(WORDS_PER_RECORD_MAX)?;
        if records > self.records_max || u32::try_from(words).is_err() {
            return None;
        }
        if self.decoded.records == 0 {
            self.decoded.tally = Tally::with_room(batch.rows);
        }
        self.decoded.records = records;
        let hashing = self.decoded.tally.hashing();
        for row in 0..batch.rows {
            for (name, column) in self.record.names.iter_mut().zip(&batch.names) {
                let found = column.get(row)?;
                if !is_good(found) {
                    return None;
                }
                name.set(found, &hashing);
            }
            for (field, column) in
                [Field::Hour, Field::BytesRx, Field::BytesTx].iter().zip(&batch.integers)
            {
                let (number, max) = field.integer();
                self.record.integers[number] = column.get(row).filter(|&value| value <= max)?;
            }
            self.decoded.tally.add(&self.record);
        }
        Some(())
    }

    /// What they sum to.
    pub fn end(self) -> Decoded {
        self.decoded
    }
}

/// Whether any bytes are UTF-8 and a good name; most are plain ASCII.
fn is_good(name: &[u8]) -> bool {
    let is_plain = name.iter().all(|byte| (0x20..0x7f).contains(byte));
    (is_plain || str::from_utf8(name).is_ok()) && name_is_good(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(names: &[&[u8]], integers: [u64; 3], records_max: usize) -> Option<Decoded> {
        let text = names.concat();
        let mut end = 0;
        let mut offsets = vec![[0; 4]];
        offsets.extend(names.iter().map(|name| {
            end += name.len() as i32;
            end.to_le_bytes()
        }));
        let column = Strings::Short(&offsets, &text);
        let values = integers.map(|value| vec![value.to_le_bytes(); names.len()]);
        let batch = Batch {
            rows: names.len(),
            names: [column.clone(), column.clone(), column],
            integers: values.each_ref().map(|values| Integers::U64(values)),
        };
        let mut rows = Rows::new(records_max);
        rows.add(&batch)?;
        rows.add(&Batch { rows: 0, ..batch })?;
        Some(rows.end())
    }

    #[test]
    fn records_are_summed() {
        let found = added(&[b"a", "é".as_bytes(), b"a"], [1, 2, (1 << 53) - 1], 3).unwrap();
        assert_eq!(found.records, 3);
        let sums: Vec<_> = found.tally.rows().iter().map(|row| (row.hour, row.bytes_tx)).collect();
        assert_eq!(sums, [(1, (1 << 54) - 2), (1, (1 << 53) - 1)]);
        assert_eq!(added(&[], [0; 3], 0).unwrap().records, 0);
    }

    #[test]
    fn what_breaks_a_rule_is_declined() {
        let too_long = [b'n'; 257];
        let bad: [&[u8]; 7] =
            [b"", b"\0", b"a\x1f", b"\x7f", b"\xc2\x85", b"\xed\xa0\x80", &too_long];
        for name in bad {
            assert!(added(&[b"a", name], [0; 3], 9).is_none(), "{name:?}");
        }
        assert!(added(&[b"a"], [1 << 31, 0, 0], 9).is_none());
        assert!(added(&[b"a"], [0, 1 << 53, 0], 9).is_none());
        assert!(added(&[b"a"], [0, 0, 1 << 53], 9).is_none());
        assert!(added(&[b"a", b"b"], [0; 3], 1).is_none());
        let batch = Batch {
            rows: 1,
            names: std::array::from_fn(|_| Strings::Short(&[], b"")),
            integers: [Integers::U8(&[]); 3],
        };
        assert!(Rows::new(9).add(&batch).is_none());
    }
}
