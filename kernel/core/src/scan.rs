//! Bytes read eight at a time, in an ordinary register: no unsafe code, the same on every machine.
//!
//! A test of eight bytes yields a flag in the top bit of each byte that it holds for. Only the
//! lowest flag counts: a borrow or carry can spoil the flags above a byte that is flagged truly,
//! never those below.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x80 * ONES;
const DIGIT_0: u64 = b'0' as u64 * ONES;
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Eight bytes from a position, the first one lowest; zeros stand for what is past the end.
#[inline(always)]
pub fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(word) => u64::from_le_bytes(*word),
        None => load_last(bytes, at),
    }
}

#[cold]
fn load_last(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (place, byte) in word.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
        *place = *byte;
    }
    u64::from_le_bytes(word)
}

/// Sixteen bytes from a position, as two words.
#[inline(always)]
pub fn load_two(bytes: &[u8], at: usize) -> [u64; 2] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        Some(found) => {
            let both = u128::from_le_bytes(*found);
            [both as u64, (both >> 64) as u64]
        }
        None => [load_last(bytes, at), load_last(bytes, at.saturating_add(8))],
    }
}

/// Flags the bytes that a plain name cannot hold: the quote, the backslash, C0 and DEL. The word is
/// of valid UTF-8, in which no byte is 0xff: adding 1 to each carries nothing over.
#[inline(always)]
pub fn stops_of(word: u64) -> u64 {
    let quote = (word ^ (b'"' as u64 * ONES)).wrapping_sub(ONES);
    let backslash = (word ^ (b'\\' as u64 * ONES)).wrapping_sub(ONES);
    let control = word.wrapping_sub(0x20 * ONES);
    let delete = word.wrapping_add(ONES);
    (quote | backslash | control | delete) & !word & TOPS
}

/// Where the closing quote of a string stands that is plain from a byte on, of whatever length.
#[inline(always)]
pub fn end_of_plain_text(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let stops = stops_of(load(body, at));
        if stops != 0 {
            at += below(stops).0;
            return (body.get(at) == Some(&b'"')).then_some(at);
        }
        at += 8;
    }
}

/// How many of a word's bytes stand below the lowest flag, and a mask of them.
#[inline(always)]
pub fn below(flags: u64) -> (usize, u64) {
    let lowest = flags & flags.wrapping_neg();
    ((lowest.trailing_zeros() / 8) as usize, (lowest >> 7).wrapping_sub(1))
}

/// Whether one of a word's bytes is not ASCII.
#[inline(always)]
pub fn is_beyond_ascii(word: u64) -> bool {
    word & TOPS != 0
}

/// The value of an integer of at most 16 digits that begins at `at`, and where it ends. `None`
/// where it has more, begins with a needless zero, is larger than `max`, or is not there.
#[inline(always)]
pub fn plain_integer(body: &[u8], at: usize, max: u64) -> Option<(u64, usize)> {
    let word = load(body, at) ^ DIGIT_0;
    let mut count = digits_of(word);
    let value = match count {
        0 => return None,
        1..8 => eight_digits(word << (64 - 8 * count)),
        _ => {
            let rest = load(body, at + 8) ^ DIGIT_0;
            let more = digits_of(rest);
            count += more;
            if more == 0 {
                eight_digits(word)
            } else {
                let rest = eight_digits(rest << (64 - 8 * more));
                eight_digits(word) * POWERS[more as usize] + rest
            }
        }
    };
    let end = at + count as usize;
    let needless_zero = word & 0xff == 0 && count > 1;
    let goes_on = count == 16 && body.get(end).is_some_and(u8::is_ascii_digit);
    if needless_zero || goes_on || value > max {
        return None;
    }
    Some((value, end))
}

/// How many of eight bytes, less "0" each, are digits before the first that is none.
#[inline(always)]
fn digits_of(word: u64) -> u32 {
    let others = ((word.wrapping_add(0x76 * ONES)) | word) & TOPS;
    others.trailing_zeros() / 8
}

/// The number that eight digits make, the first one lowest: pairs, then fours, then all.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for text in ["0", "7", "42", "1234567", "12345678", "123456789", "9007199254740991"] {
            for after in ["", "}", ",\"bytes_tx\":1}", ".", "\u{e9}", "/", ":"] {
                let body = format!("{text}{after}");
                let expected = Some((text.parse().unwrap(), text.len()));
                assert_eq!(plain_integer(body.as_bytes(), 0, (1 << 53) - 1), expected, "{body}");
            }
        }
        for body in [
            "",
            "x",
            "-1",
            "+1",
            "00",
            "01",
            "9007199254740992",
            "99999999999999999",
            "0000000000000001",
            "123456789012345678901234567890",
            "/",
            ":",
        ] {
            assert_eq!(plain_integer(body.as_bytes(), 0, (1 << 53) - 1), None, "{body}");
        }
        assert_eq!(plain_integer(b"2147483648,", 0, (1 << 31) - 1), None);
    }

    #[test]
    fn stops() {
        for byte in 0..0xff_u8 {
            let stops = matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f);
            for at in 0..8 {
                let mut word = *b"\xc3\xa9 azAZ~";
                word[at] = byte;
                let flags = stops_of(u64::from_le_bytes(word));
                assert_eq!(flags != 0, stops, "{byte:x}");
                if stops {
                    let mask = (1_u64 << (8 * at)) - 1;
                    assert_eq!(below(flags), (at, mask));
                }
            }
        }
    }
}
