//! Blobs of any content, their checksum made right: merging them never panics, and what it accepts
//! is sound. An input is a flag (whether arrival hours are told) and a blob's bytes, merged twice.

#![no_main]

use flowtally_kernel_core::merge::{Columns, merge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((flag, bytes)) = input.split_first() else { return };
    let mut blob = bytes.to_vec();
    blob.extend_from_slice(&crc32(bytes).to_le_bytes());
    let Some(once) = merge(&[&blob], None) else { return };
    once.chunks.iter().for_each(assert_sound);
    let hours = [i64::from(*flag), 7];
    let Some(twice) = merge(&[&blob, &blob], (flag & 1 == 1).then_some(&hours)) else { return };
    twice.chunks.iter().for_each(assert_sound);
    let sum = |chunks: &[Columns]| -> u128 {
        chunks.iter().flat_map(|chunk| &chunk.records).map(|&records| records as u128).sum()
    };
    assert_eq!(sum(&twice.chunks), 2 * sum(&once.chunks));
});

fn assert_sound(chunk: &Columns) {
    let rows = chunk.hour.len();
    assert!(rows > 0);
    for names in &chunk.names {
        assert_eq!(names.offsets.len(), rows + 1);
        for pair in names.offsets.windows(2) {
            let name = &names.text[pair[0] as usize..pair[1] as usize];
            assert!(str::from_utf8(name).is_ok() && name.len() <= 256);
        }
        assert_eq!(*names.offsets.last().unwrap() as usize, names.text.len());
    }
    let most = 10_u128.pow(38) - 1;
    assert!(chunk.bytes_rx.iter().chain(&chunk.bytes_tx).all(|&value| value <= most));
    assert_eq!(
        (chunk.bytes_rx.len(), chunk.bytes_tx.len(), chunk.records.len()),
        (rows, rows, rows)
    );
}

/// CRC-32 bit by bit, written apart from the core's.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
