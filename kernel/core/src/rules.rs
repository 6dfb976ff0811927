//! What a record may hold: the same bounds as `limits.py` and `wire/rules.py` state.
//!
//! The binding hands these constants to Python, where a test compares them with the twin's.

/// UTF-8 bytes of an app name or vpc_id.
pub const NAME_BYTES_MAX: usize = 256;
/// The largest hour label.
pub const HOUR_MAX: u64 = (1 << 31) - 1;
/// The largest `bytes_rx` or `bytes_tx` of one record.
pub const VALUE_MAX: u64 = (1 << 53) - 1;
/// How deep an unknown field may nest: a number is 0 deep, an empty array 1.
pub const UNKNOWN_DEPTH_MAX: usize = 16;
/// Commas, opening brackets and backslashes, per permitted record, that a body may have and still
/// be looked at closely by the twin. Where there are more, the twin decides.
pub const MARKS_PER_RECORD_MAX: usize = 16;

/// The fields of a record, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    SrcApp,
    DestApp,
    VpcId,
    Hour,
    BytesRx,
    BytesTx,
}

/// How many fields a record has.
pub const FIELDS: usize = 6;
/// How many of them are names; they come first.
pub const NAMES: usize = 3;
/// How many of them are integers: `hour`, `bytes_rx` and `bytes_tx`.
pub const INTEGERS: usize = FIELDS - NAMES;

// Looked up and not chosen by a branch: the fast reader asks for each integer.
const INTEGERS_MAX: [u64; INTEGERS] = [HOUR_MAX, VALUE_MAX, VALUE_MAX];

impl Field {
    /// The field of a key, its escapes undone; `None` for a field that is not known.
    pub fn of(key: &[u8]) -> Option<Field> {
        Some(match key {
            b"src_app" => Field::SrcApp,
            b"dest_app" => Field::DestApp,
            b"vpc_id" => Field::VpcId,
            b"hour" => Field::Hour,
            b"bytes_rx" => Field::BytesRx,
            b"bytes_tx" => Field::BytesTx,
            _ => return None,
        })
    }

    /// Whether the field holds a name; the others hold integers.
    pub fn is_name(self) -> bool {
        (self as usize) < NAMES
    }

    /// Of a field that holds an integer: the how manieth of these it is, and its largest value.
    #[inline(always)]
    pub fn integer(self) -> (usize, u64) {
        let number = self as usize - NAMES;
        (number, INTEGERS_MAX[number])
    }
}

/// Whether a name, which is valid UTF-8, may be summed under.
pub fn name_is_good(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(|&byte| byte >= 0x20 && byte != 0x7f)
        && !holds_c1(name)
}

/// Whether valid UTF-8 holds a control character of U+0080..U+009F: they are C2 80..C2 9F.
pub fn holds_c1(name: &[u8]) -> bool {
    name.windows(2).any(|pair| pair[0] == 0xc2 && pair[1] < 0xa0)
}

/// Whether a body has so many marks that the twin might refuse it for that, and so must be asked.
pub fn is_too_much(body: &[u8], records_max: usize) -> bool {
    let marks_max = MARKS_PER_RECORD_MAX.saturating_mul(records_max);
    // Most bodies have fewer bytes than they may have marks: they need not be counted.
    body.len() > marks_max && marks(body) > marks_max
}

fn marks(body: &[u8]) -> usize {
    let is_mark = |&byte: &u8| u8::from(matches!(byte, b',' | b'[' | b'{' | b'\\'));
    // Counts of at most 255 fit a byte, which lets the compiler add up many of them at once.
    body.chunks(255).map(|chunk| usize::from(chunk.iter().map(is_mark).sum::<u8>())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "é".repeat(128);
        for good in ["a", " ", "\u{a0}", "\u{7ff}", "😀", &longest] {
            assert!(name_is_good(good.as_bytes()), "{good:?}");
        }
        let too_long = format!("{longest}x");
        for bad in ["", "\0", "a\u{1f}", "\u{7f}", "\u{80}", "x\u{9f}", &too_long] {
            assert!(!name_is_good(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn marks_are_counted_where_there_may_be_too_many() {
        assert!(!is_too_much(&[b','; 16], 1));
        assert!(is_too_much(&[b','; 17], 1));
        assert!(is_too_much(&[b'\\'; 1000], 62));
        assert!(!is_too_much(&[b'x'; 1000], 1));
    }
}
