//! Sums as JSON text for a read: the very bytes of `wire/sums.py`.
//!
//! Names hold no control character, so that only the quote and the backslash are escaped; integers
//! are written in full.

use crate::columns::{Integers, Strings};
use crate::rules::{NAME_BYTES_MAX, NAMES};
use crate::scan::load;

/// Sums of several flows, in columns.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Sums<'a> {
    pub rows: usize,
    pub names: [Strings<'a>; NAMES],
    pub hour: Integers<'a>,
    /// decimal128 without a fraction.
    pub bytes_rx: &'a [[u8; 16]],
    pub bytes_tx: &'a [[u8; 16]],
}

impl Sums<'_> {
    /// The bytes received of a row; `None` where they are negative or not there.
    #[inline(always)]
    pub fn bytes_rx(&self, row: usize) -> Option<u128> {
        decimal(self.bytes_rx, row)
    }

    /// The same of those sent.
    #[inline(always)]
    pub fn bytes_tx(&self, row: usize) -> Option<u128> {
        decimal(self.bytes_tx, row)
    }
}

/// Rows are written in parts of so many, into a buffer that stays in the nearest caches.
const ROWS_AT_ONCE: usize = 256;
/// The longest text of a row: every byte of its names escaped, and what stands around them.
const ROW_BYTES_MAX: usize = 2 * NAMES * NAME_BYTES_MAX + 256;

/// Appends an object for each flow, and `end` after each; `None` where a column is not sound, a name
/// too long or a sum negative.
pub fn write_json(text: &mut Vec<u8>, sums: &Sums<'_>, end: u8) -> Option<()> {
    let mut part = vec![0; ROW_BYTES_MAX * ROWS_AT_ONCE.min(sums.rows)];
    for first in (0..sums.rows).step_by(ROWS_AT_ONCE) {
        let mut writer = Writer { text: &mut part, at: 0 };
        for row in first..sums.rows.min(first + ROWS_AT_ONCE) {
            let [src, dest, vpc] = &sums.names;
            writer.put_row(
                [src.get(row)?, dest.get(row)?, vpc.get(row)?],
                Writer::put_escaped,
                sums.hour.get(row)?,
                [sums.bytes_rx(row)?, sums.bytes_tx(row)?],
                end,
            )?;
        }
        let size = writer.at;
        text.extend_from_slice(&part[..size]);
    }
    Some(())
}

#[inline(always)]
fn decimal(column: &[[u8; 16]], row: usize) -> Option<u128> {
    i128::from_le_bytes(*column.get(row)?).try_into().ok()
}

/// A text that is large enough, and where it ends so far.
pub(crate) struct Writer<'t> {
    pub text: &'t mut [u8],
    pub at: usize,
}

impl Writer<'_> {
    /// Puts the object of a flow, and `end` after it.
    #[inline(always)]
    pub fn put_row(
        &mut self,
        names: [&[u8]; NAMES],
        mut put_name: impl FnMut(&mut Self, &[u8]) -> Option<()>,
        hour: u64,
        [bytes_rx, bytes_tx]: [u128; 2],
        end: u8,
    ) -> Option<()> {
        let [src, dest, vpc] = names;
        self.put(b"{\"src_app\":\"");
        put_name(self, src)?;
        self.put(b"\",\"dest_app\":\"");
        put_name(self, dest)?;
        self.put(b"\",\"vpc_id\":\"");
        put_name(self, vpc)?;
        self.put(b"\",\"hour\":");
        self.put_u64(hour);
        self.put(b",\"bytes_rx\":");
        self.put_integer(bytes_rx);
        self.put(b",\"bytes_tx\":");
        self.put_integer(bytes_tx);
        self.put(&[b'}', end]);
        Some(())
    }

    /// Puts a text whose size the compiler knows: that is a few moves.
    #[inline(always)]
    pub fn put<const N: usize>(&mut self, text: &[u8; N]) {
        self.text[self.at..self.at + N].copy_from_slice(text);
        self.at += N;
    }

    #[inline(always)]
    fn put_escaped(&mut self, name: &[u8]) -> Option<()> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let start = self.at;
        let mut found = false;
        let mut words = name.chunks_exact(8);
        for word in &mut words {
            let word = load(word, 0);
            found |= holds_escaped(word);
            self.put(&word.to_le_bytes());
        }
        for &byte in words.remainder() {
            found |= matches!(byte, b'"' | b'\\');
            self.put(&[byte]);
        }
        if found {
            self.at = start;
            self.put_byte_by_byte(name);
        }
        Some(())
    }

    #[cold]
    fn put_byte_by_byte(&mut self, name: &[u8]) {
        for &byte in name {
            if matches!(byte, b'"' | b'\\') {
                self.put(b"\\");
            }
            self.put(&[byte]);
        }
    }

    #[inline(always)]
    fn put_integer(&mut self, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.put_u64(value),
            Err(_) => self.put_large(value),
        }
    }

    #[cold]
    fn put_large(&mut self, value: u128) {
        const BLOCK: u128 = 10_u128.pow(18);
        self.put_integer(value / BLOCK);
        // A leading 1 keeps the zeros of the lower digits. It takes the place of the digit before,
        // which is put back.
        let before = self.text[self.at - 1];
        self.at -= 1;
        self.put_u64((BLOCK + value % BLOCK) as u64);
        self.text[self.at - 19] = before;
    }

    #[inline(always)]
    fn put_u64(&mut self, mut value: u64) {
        let count = value.checked_ilog10().unwrap_or(0) as usize + 1;
        let digits = &mut self.text[self.at..self.at + count];
        self.at += count;
        let mut at = count;
        while value >= 100 {
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
            value /= 100;
        }
        if value >= 10 {
            digits[..2].copy_from_slice(&PAIRS[value as usize]);
        } else {
            digits[0] = b'0' + value as u8;
        }
    }
}

/// Whether one of eight bytes is a quote or a backslash; a borrow can flag another byte falsely only
/// where one is.
#[inline(always)]
fn holds_escaped(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & (0x80 * ONES);
    zero(word ^ (b'"' as u64 * ONES)) | zero(word ^ (b'\\' as u64 * ONES)) != 0
}

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    fn written(put: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut text = [b'?'; 1_000];
        let mut writer = Writer { text: &mut text, at: 0 };
        put(&mut writer);
        let size = writer.at;
        String::from_utf8(text[..size].to_vec()).unwrap()
    }

    #[test]
    fn integers() {
        let powers = (0..39).map(|power| 10_u128.pow(power));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, 7 * (power / 8)]);
        for value in near.chain([u64::MAX.into(), 1 << 64, u128::MAX, (1 << 64) - 2]) {
            assert_eq!(written(|text| text.put_integer(value)), value.to_string());
        }
    }

    #[test]
    fn names() {
        let put = |name: &str| written(|text| text.put_escaped(name.as_bytes()).unwrap());
        for name in ["", "plain", "eight888", "é and more of it", "\u{2122}]\u{a2}\u{dc}!#"] {
            assert_eq!(put(name), name);
        }
        for (at, escaped) in (0..20).flat_map(|at| [(at, "\""), (at, "\\")]) {
            let name = format!("{}{escaped}{}", "n".repeat(at), "é".repeat(20 - at));
            assert_eq!(put(&name), name.replace(escaped, &format!("\\{escaped}")));
        }
        let longest = "\"".repeat(NAME_BYTES_MAX);
        assert_eq!(put(&longest), "\\\"".repeat(NAME_BYTES_MAX));
        assert_eq!(written(|text| assert!(text.put_escaped(&[b'n'; 257]).is_none())), "");
    }

    #[test]
    fn the_longest_rows() {
        let offsets: Vec<_> = (0..=300).map(|row| (row * 256_i32).to_le_bytes()).collect();
        let text = [b'\\'; 300 * 256];
        let names = Strings::Short(&offsets, &text);
        let most = [i128::MAX.to_le_bytes(); 300];
        let sums = Sums {
            rows: 300,
            names: [names.clone(), names.clone(), names],
            hour: Integers::U64(&[[0xff; 8]; 300]),
            bytes_rx: &most,
            bytes_tx: &most,
        };
        let mut text = Vec::new();
        write_json(&mut text, &sums, b',').unwrap();
        assert_eq!(text.len() % 300, 0);
        assert!(text.len() / 300 < ROW_BYTES_MAX);
    }

    #[test]
    fn rows() {
        let offsets = [0_i32, 1, 3].map(i32::to_le_bytes);
        let names = Strings::Short(&offsets, b"ab\"");
        let (zero, most) = (0_u128.to_le_bytes(), (10_u128.pow(38) - 1).to_le_bytes());
        let hours = [[7, 0], [8, 0]];
        let sums = Sums {
            rows: 2,
            names: [names.clone(), names.clone(), names],
            hour: Integers::I16(&hours),
            bytes_rx: &[zero, most],
            bytes_tx: &[most, zero],
        };
        let mut text = Vec::new();
        write_json(&mut text, &sums, b'\n').unwrap();
        let most = "9".repeat(38);
        let expected = [
            r#"{"src_app":"a","dest_app":"a","vpc_id":"a","hour":7,"bytes_rx":0,"bytes_tx":MOST}"#,
            r#"{"src_app":"b\"","dest_app":"b\"","vpc_id":"b\"","hour":8,"bytes_rx":MOST,"bytes_tx":0}"#,
            "",
        ];
        assert_eq!(String::from_utf8(text).unwrap(), expected.join("\n").replace("MOST", &most));
        let negative = [(-1_i128).to_le_bytes(); 2];
        for bad in [
            Sums { rows: 3, ..sums.clone() },
            Sums { bytes_rx: &negative, ..sums.clone() },
            Sums { hour: Integers::I8(&[[0x80], [0x80]]), ..sums },
        ] {
            assert!(write_json(&mut Vec::new(), &bad, b',').is_none());
        }
    }
}
