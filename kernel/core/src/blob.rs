//! Tallies as compact bytes for the journal: the very bytes of `wire/blob.py`.
//!
//! The format is drawn in `docs/internals/tally-blob.md`. `writing` makes a blob of what is summed;
//! `reading` believes nothing of one.

mod reading;
mod writing;

pub use reading::Blob;
pub use writing::{Source, encode};

const MAGIC: &[u8; 2] = b"FT";
const VERSION: u8 = 2;
const HEADER_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use crc32fast::hash as crc32;

    use super::*;
    use crate::Decoded;
    use crate::flows::FlowRow;
    use crate::layout::Layouts;
    use crate::names::Names;

    fn decoded(body: &str) -> Decoded {
        crate::decode_array(body.as_bytes(), 10, &mut Layouts::new()).unwrap()
    }

    fn blob_of(body: &str) -> Vec<u8> {
        encode(&[Source::Tally(&decoded(body).tally)]).unwrap()
    }

    fn rows_of(blob: &[u8]) -> Vec<FlowRow> {
        let blob = Blob::read(blob).unwrap();
        let numbers: Vec<u32> = (0..blob.names().count() as u32).collect();
        (0..blob.rows()).map(|row| blob.row_as(row, &numbers).unwrap()).collect()
    }

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        body.extend_from_slice(&crc32(&body).to_le_bytes());
        body
    }

    const BODY: &str = r#"[{"src_app":"é","dest_app":"b","vpc_id":"é","hour":7,"bytes_rx":1,"bytes_tx":2},
        {"src_app":"b","dest_app":"c","vpc_id":"v","hour":9,"bytes_rx":0,"bytes_tx":70000}]"#;

    #[test]
    fn a_round_trip() {
        let blob = blob_of(BODY);
        let names: Vec<&[u8]> = Blob::read(&blob).unwrap().names().collect();
        assert_eq!(names, ["é", "b", "c", "v"].map(str::as_bytes));
        let first = FlowRow {
            names: [0, 1, 0],
            hour: 7,
            records: 1,
            bytes_rx: 1,
            bytes_tx: 2,
            ..FlowRow::default()
        };
        let second = FlowRow { names: [1, 2, 3], hour: 9, bytes_rx: 0, bytes_tx: 70_000, ..first };
        assert_eq!(rows_of(&blob), [first, second]);
        assert!(rows_of(&blob_of("[]")).is_empty());
    }

    #[test]
    fn sources_of_both_kinds_are_summed() {
        let one = decoded(BODY);
        let other = blob_of(BODY);
        let both = [Source::Tally(&one.tally), Source::Blob(Box::new(Blob::read(&other).unwrap()))];
        let rows = rows_of(&encode(&both).unwrap());
        let sums: Vec<(u64, u128)> = rows.iter().map(|row| (row.records, row.bytes_tx)).collect();
        assert_eq!(sums, [(2, 4), (2, 140_000)]);
        assert_eq!(encode(&[Source::Blob(Box::new(Blob::read(&other).unwrap()))]).unwrap(), other);
    }

    #[test]
    fn every_width_is_read_as_it_was_written() {
        for most in [0, 1, 0xff, 0x100, 0xffff, 1 << 16, 1 << 32, 1 << 64, u128::MAX] {
            let mut names = Names::new();
            names.number_of(b"a", 0).unwrap();
            let row = FlowRow { records: 5, hour: 3, bytes_rx: most, ..FlowRow::default() };
            let rows = [row, FlowRow { hour: 4, bytes_rx: 0, bytes_tx: most, ..row }];
            assert_eq!(rows_of(&writing::write(&names, &rows).unwrap()), rows);
        }
    }

    #[test]
    fn every_changed_bit_is_found() {
        let blob = blob_of(BODY);
        for at in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(Blob::read(&damaged).is_none(), "byte {at}");
            assert!(Blob::read(&blob[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_checksum_alone_is_not_believed() {
        let blob = blob_of(BODY);
        let body = &blob[..blob.len() - CHECKSUM_BYTES];
        let with = |at: usize, value: u32| {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
            sealed(body)
        };
        assert!(Blob::read(&sealed(body.to_vec())).is_some());
        for (at, value) in [(4, u32::MAX), (8, u32::MAX), (12, u32::MAX), (4, 9), (12, 0)] {
            assert!(Blob::read(&with(at, value)).is_none(), "header {at}: {value}");
        }
        for (at, value) in [(40, 1), (44, 1), (44, 9), (44, u32::MAX), (56, 4)] {
            assert!(Blob::read(&with(at, value)).is_none(), "offset {at}: {value}");
        }
        assert!(Blob::read(&with(20, 3)).is_none(), "a width of 3");
        let mut text = body.to_vec();
        text[64] = 0xff;
        assert!(Blob::read(&sealed(text)).is_none());
    }

    #[test]
    fn rows_that_take_no_room_are_not_believed() {
        // Found by the fuzzer: 50 bytes that were read for a minute.
        let blob = blob_of("[]");
        let mut body = blob[..blob.len() - CHECKSUM_BYTES].to_vec();
        for (rows, sound) in [(0_u32, true), (1, true), (2, false), (u32::MAX, false)] {
            body[4..8].copy_from_slice(&rows.to_le_bytes());
            assert_eq!(Blob::read(&sealed(body.clone())).is_some(), sound, "{rows} rows");
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_declined() {
        let blob = blob_of(BODY);
        let body = &blob[..blob.len() - CHECKSUM_BYTES];
        for (at, value) in [(16, u32::MAX), (36, u32::MAX)] {
            let mut body = body.to_vec();
            body[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let blob = sealed(body);
            let blob = Blob::read(&blob).unwrap();
            let read = |row| blob.row_as(row, &[0, 1, 2, 3]);
            assert!(at == 36 || read(1).is_none());
            assert!((0..2).all(|row| blob.row_as(row, &[]).is_none()));
        }
    }
}
