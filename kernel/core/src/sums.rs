//! Sums as JSON text for a read: the very bytes of `wire/sums.py`.
//!
//! Names hold no control character, so that only the quote and the backslash are escaped; integers
//! are written in full.

use crate::columns::{Integers, Strings};
use crate::rules::NAMES;
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

const BEFORE_NAMES: [&[u8]; NAMES] =
    [b"{\"src_app\":\"", b"\",\"dest_app\":\"", b"\",\"vpc_id\":\""];
/// What stands in a row beside its names, where the sums have 20 digits each.
const ROW_BYTES: usize = 130;

/// Appends an object for each flow, and `end` after each; `None` where a column is not sound or a
/// sum is negative.
pub fn write_json(text: &mut Vec<u8>, sums: &Sums<'_>, end: u8) -> Option<()> {
    let mut hour_before = None;
    let mut hour_text = Vec::new();
    for row in 0..sums.rows {
        // Most reads are of one hour: it is written once.
        let hour = sums.hour.get(row)?;
        if hour_before.replace(hour) != Some(hour) {
            hour_text.clear();
            hour_text.extend_from_slice(b"\",\"hour\":");
            put_integer(&mut hour_text, hour.into());
            hour_text.extend_from_slice(b",\"bytes_rx\":");
        }
        text.reserve(ROW_BYTES);
        for (before, column) in BEFORE_NAMES.iter().zip(&sums.names) {
            text.extend_from_slice(before);
            put_escaped(text, column.get(row)?);
        }
        text.extend_from_slice(&hour_text);
        put_integer(text, decimal(sums.bytes_rx, row)?);
        text.extend_from_slice(b",\"bytes_tx\":");
        put_integer(text, decimal(sums.bytes_tx, row)?);
        text.extend_from_slice(&[b'}', end]);
    }
    Some(())
}

#[inline(always)]
fn decimal(column: &[[u8; 16]], row: usize) -> Option<u128> {
    i128::from_le_bytes(*column.get(row)?).try_into().ok()
}

#[inline(always)]
fn put_escaped(text: &mut Vec<u8>, name: &[u8]) {
    if (0..name.len()).step_by(8).all(|at| !holds_escaped(load(name, at))) {
        text.extend_from_slice(name);
        return;
    }
    for &byte in name {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(byte);
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

/// Appends the digits of an integer.
fn put_integer(text: &mut Vec<u8>, value: u128) {
    const BLOCK: u128 = 10_u128.pow(18);
    match u64::try_from(value) {
        Ok(value) => put_u64(text, value),
        Err(_) => {
            put_integer(text, value / BLOCK);
            // The lower digits with their zeros: a leading 1 is written and taken away.
            let at = text.len();
            put_u64(text, (BLOCK + value % BLOCK) as u64);
            text.remove(at);
        }
    }
}

#[inline(always)]
fn put_u64(text: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while value >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    text.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let powers = (0..39).map(|power| 10_u128.pow(power));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, 7 * (power / 8)]);
        for value in near.chain([u64::MAX.into(), 1 << 64, u128::MAX, (1 << 64) - 2]) {
            let mut text = b"x".to_vec();
            put_integer(&mut text, value);
            assert_eq!(text, format!("x{value}").as_bytes());
        }
    }

    #[test]
    fn names() {
        for name in ["", "plain", "eight888", "é and more of it", "\u{2122}]\u{a2}\u{dc}!#"] {
            let mut text = Vec::new();
            put_escaped(&mut text, name.as_bytes());
            assert_eq!(text, name.as_bytes());
        }
        for at in 0..20 {
            let mut name = [b'n'; 20];
            name[at] = b'"';
            let mut text = Vec::new();
            put_escaped(&mut text, &name);
            let expected = String::from_utf8(name.to_vec()).unwrap().replace('"', "\\\"");
            assert_eq!(text, expected.as_bytes());
        }
        let mut text = Vec::new();
        put_escaped(&mut text, b"\\a\\\"");
        assert_eq!(text, b"\\\\a\\\\\\\"");
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
