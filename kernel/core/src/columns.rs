//! Columns as Arrow lays them out in memory. They came from elsewhere and are not trusted: wherever
//! an offset, a view or a code points, nothing outside the given bytes is read.
//!
//! <https://arrow.apache.org/docs/format/Columnar.html>. Whether there are nulls is not asked here.

/// A column of integers, little-endian.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Integers<'a> {
    I8(&'a [[u8; 1]]),
    U8(&'a [[u8; 1]]),
    I16(&'a [[u8; 2]]),
    U16(&'a [[u8; 2]]),
    I32(&'a [[u8; 4]]),
    U32(&'a [[u8; 4]]),
    I64(&'a [[u8; 8]]),
    U64(&'a [[u8; 8]]),
}

impl Integers<'_> {
    /// The integer of a row; `None` where it is negative or not there.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<u64> {
        match self {
            Integers::I8(values) => i8::from_le_bytes(*values.get(row)?).try_into().ok(),
            Integers::U8(values) => Some(u8::from_le_bytes(*values.get(row)?).into()),
            Integers::I16(values) => i16::from_le_bytes(*values.get(row)?).try_into().ok(),
            Integers::U16(values) => Some(u16::from_le_bytes(*values.get(row)?).into()),
            Integers::I32(values) => i32::from_le_bytes(*values.get(row)?).try_into().ok(),
            Integers::U32(values) => Some(u32::from_le_bytes(*values.get(row)?).into()),
            Integers::I64(values) => i64::from_le_bytes(*values.get(row)?).try_into().ok(),
            Integers::U64(values) => Some(u64::from_le_bytes(*values.get(row)?)),
        }
    }
}

/// A column of strings, or of what should be strings: they are not known to be UTF-8.
#[derive(Clone, Debug)]
pub enum Strings<'a> {
    /// Offsets of 32 bits into one text, one more than there are rows.
    Short(&'a [[u8; 4]], &'a [u8]),
    /// Offsets of 64 bits.
    Long(&'a [[u8; 8]], &'a [u8]),
    /// Views: short strings stand in them, longer ones in one of several texts.
    Views(&'a [[u8; 16]], Vec<&'a [u8]>),
    /// A dictionary: each row has the number of its value.
    Coded(Integers<'a>, Box<Strings<'a>>),
}

/// The longest string that stands in its view.
const VIEW_INLINE_BYTES_MAX: usize = 12;

impl<'a> Strings<'a> {
    /// The bytes of a row's string; `None` where it is not there.
    #[inline(always)]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Strings::Short(offsets, text) => {
                let [start, end] = *offsets.get(row..)?.first_chunk()?;
                text.get(offset(i32::from_le_bytes(start))?..offset(i32::from_le_bytes(end))?)
            }
            Strings::Long(offsets, text) => {
                let [start, end] = *offsets.get(row..)?.first_chunk()?;
                text.get(offset(i64::from_le_bytes(start))?..offset(i64::from_le_bytes(end))?)
            }
            Strings::Views(views, texts) => viewed(views.get(row)?, texts),
            Strings::Coded(codes, values) => values.get(usize::try_from(codes.get(row)?).ok()?),
        }
    }
}

#[inline(always)]
fn offset<T: TryInto<usize>>(offset: T) -> Option<usize> {
    offset.try_into().ok()
}

fn viewed<'a>(view: &'a [u8; 16], texts: &[&'a [u8]]) -> Option<&'a [u8]> {
    let (size, rest) = view.split_first_chunk()?;
    let size = offset(i32::from_le_bytes(*size))?;
    if size <= VIEW_INLINE_BYTES_MAX {
        return rest.get(..size);
    }
    // A prefix of four bytes, the number of a text, and where in it the string begins.
    let text = offset(i32::from_le_bytes(*rest.get(4..)?.first_chunk()?))?;
    let start = offset(i32::from_le_bytes(*rest.get(8..)?.first_chunk()?))?;
    texts.get(text)?.get(start..start + size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_kind() {
        let minus = [0xff_u8; 8];
        assert_eq!(Integers::I8(&[[5], [0x80]]).get(0), Some(5));
        assert_eq!(Integers::I8(&[[5], [0x80]]).get(1), None);
        assert_eq!(Integers::U8(&[[0x80]]).get(0), Some(128));
        assert_eq!(Integers::I16(&[[1, 1], [0, 0x80]]).get(0), Some(257));
        assert_eq!(Integers::I16(&[[1, 1], [0, 0x80]]).get(1), None);
        assert_eq!(Integers::U16(&[[0, 0x80]]).get(0), Some(32_768));
        assert_eq!(Integers::I32(&[[0, 0, 0, 0x80]]).get(0), None);
        assert_eq!(Integers::U32(&[[0, 0, 0, 0x80]]).get(0), Some(1 << 31));
        assert_eq!(Integers::I64(&[minus]).get(0), None);
        assert_eq!(Integers::U64(&[minus]).get(0), Some(u64::MAX));
        assert_eq!(Integers::U64(&[minus]).get(1), None);
    }

    #[test]
    fn strings_with_offsets() {
        let short = [0_i32, 1, 3, 2, -1, 9].map(i32::to_le_bytes);
        let long = [0_i64, 1, 3, 2, -1, 9].map(i64::to_le_bytes);
        for strings in [Strings::Short(&short, b"abc"), Strings::Long(&long, b"abc")] {
            assert_eq!(strings.get(0), Some(&b"a"[..]));
            assert_eq!(strings.get(1), Some(&b"bc"[..]));
            for row in [2, 3, 4, 5, 6, usize::MAX] {
                assert_eq!(strings.get(row), None, "{row}");
            }
            let coded = Strings::Coded(Integers::I8(&[[1], [0xff], [9]]), Box::new(strings));
            assert_eq!(coded.get(0), Some(&b"bc"[..]));
            assert_eq!((coded.get(1), coded.get(2), coded.get(3)), (None, None, None));
        }
    }

    #[test]
    fn strings_with_views() {
        let view = |size: i32, rest: [i32; 3]| {
            let mut view = [0; 16];
            for (place, number) in view.as_chunks_mut().0.iter_mut().zip([size].iter().chain(&rest))
            {
                *place = number.to_le_bytes();
            }
            view
        };
        let inline = view(12, [0x6161_6161; 3]);
        let [there, beyond, nowhere] = [(0, 1), (0, 2), (1, 0)].map(|(t, s)| view(13, [0, t, s]));
        let negative = [view(-1, [0; 3]), view(13, [0, -1, 0]), view(13, [0, 0, -1])];
        let views = [&[inline, there, beyond, nowhere][..], &negative].concat();
        let strings = Strings::Views(&views, vec![b"0123456789abcd"]);
        assert_eq!(strings.get(0), Some(&[b'a'; 12][..]));
        assert_eq!(strings.get(1), Some(&b"123456789abcd"[..]));
        assert!((2..9).all(|row| strings.get(row).is_none()));
    }
}
