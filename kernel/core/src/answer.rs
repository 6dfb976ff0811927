//! The sums of a read as JSON text: the bytes that [`crate::sums`] writes of the same rows in columns.
//!
//! Few names occur in many rows, so each is escaped once; and how long the text will be is known
//! before it is written, so that it is written where it is wanted.

use crate::sorted::SortedSums;
use crate::sums::Writer;

/// Sums on their way into text.
pub struct Answer<'a> {
    sums: &'a SortedSums,
    /// All names escaped, one after the other, and where each ends.
    names: Vec<u8>,
    ends: Vec<usize>,
    as_array: bool,
    bytes: usize,
}

impl<'a> Answer<'a> {
    /// An array of objects; or else lines, each with one.
    pub fn of(sums: &'a SortedSums, as_array: bool) -> Answer<'a> {
        let mut answer = Answer { sums, names: Vec::new(), ends: Vec::new(), as_array, bytes: 0 };
        for number in 0..sums.names.len() as u32 {
            for &byte in sums.names.get(number) {
                if matches!(byte, b'"' | b'\\') {
                    answer.names.push(b'\\');
                }
                answer.names.push(byte);
            }
            answer.ends.push(answer.names.len());
        }
        let rows = sums.rows.iter().map(|row| {
            let names = row.names.iter().map(|&number| answer.name(number).len());
            names.sum::<usize>()
                + digits(row.hour.into())
                + digits(row.bytes_rx)
                + digits(row.bytes_tx)
        });
        let rows = rows.sum::<usize>() + sums.rows.len() * frame_bytes();
        // The array's end takes the place of the comma after its last row.
        answer.bytes = match (as_array, sums.rows.is_empty()) {
            (true, true) => 2,
            (true, false) => 1 + rows,
            (false, _) => rows,
        };
        answer
    }

    /// How long the text is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the text, into just as many bytes.
    pub fn write(&self, text: &mut [u8]) {
        assert_eq!(text.len(), self.bytes);
        let mut writer = Writer { text, at: 0 };
        if self.as_array {
            writer.put(b"[");
        }
        let end = if self.as_array { b',' } else { b'\n' };
        for row in &self.sums.rows {
            let names = row.names.map(|number| self.name(number));
            let put_name = |writer: &mut Writer<'_>, name: &[u8]| {
                writer.text[writer.at..writer.at + name.len()].copy_from_slice(name);
                writer.at += name.len();
                Some(())
            };
            let sums = [row.bytes_rx, row.bytes_tx];
            let _always = writer.put_row(names, put_name, row.hour.into(), sums, end);
        }
        if self.as_array {
            text[self.bytes - 1] = b']';
        }
    }

    #[inline(always)]
    fn name(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.names[start..self.ends[number]]
    }
}

/// What stands around the names and the integers of a row.
fn frame_bytes() -> usize {
    let mut text = [0; 256];
    let mut writer = Writer { text: &mut text, at: 0 };
    let _always = writer.put_row([b""; 3], |_, _| Some(()), 0, [0; 2], b',');
    writer.at - 3 * digits(0)
}

#[inline(always)]
fn digits(value: u128) -> usize {
    let log = match u64::try_from(value) {
        Ok(value) => value.checked_ilog10(),
        Err(_) => value.checked_ilog10(),
    };
    log.unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Integers, Strings};
    use crate::sorted::Sorting;
    use crate::sums::{Sums, write_json};

    fn written(sums: &SortedSums, as_array: bool) -> Vec<u8> {
        let answer = Answer::of(sums, as_array);
        let mut text = vec![b'?'; answer.bytes()];
        answer.write(&mut text);
        text
    }

    /// In order already, so that both write the same rows.
    const OFFSETS: [[u8; 4]; 4] = [[0; 4], [1, 0, 0, 0], [3, 0, 0, 0], [5, 0, 0, 0]];

    #[test]
    fn the_same_bytes_as_of_columns() {
        let names = Strings::Short(&OFFSETS, b"\"\\\\ab");
        let sums = [0, 10_u128.pow(38) - 1, 1 << 64].map(u128::to_le_bytes);
        let rows = Sums {
            rows: 3,
            names: [names.clone(), names.clone(), names],
            hour: Integers::U32(&[[0; 4], [0xff; 4], [9, 0, 0, 0]]),
            bytes_rx: &sums,
            bytes_tx: &sums,
        };
        let mut sorting = Sorting::default();
        sorting.add(&rows).unwrap();
        let sorted = sorting.end().unwrap();
        for (as_array, end) in [(true, b','), (false, b'\n')] {
            let mut expected = if as_array { b"[".to_vec() } else { Vec::new() };
            write_json(&mut expected, &rows, end).unwrap();
            if as_array {
                expected.pop();
                expected.push(b']');
            }
            assert_eq!(written(&sorted, as_array), expected);
        }
    }

    #[test]
    fn nothing() {
        let sums = Sorting::default().end().unwrap();
        assert_eq!((written(&sums, true), written(&sums, false)), (b"[]".to_vec(), Vec::new()));
    }
}
