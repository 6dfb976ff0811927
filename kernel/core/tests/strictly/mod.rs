//! Bodies read by the strict reader alone, summed in an ordinary map: what the fast reader, the hash
//! table and the tally are held against. Used by `mutations.rs` and by the fuzzers.

use std::collections::HashMap;

use flowtally_kernel_core::rules::is_too_much;
use flowtally_kernel_core::strict::{Reader, after_space};
use flowtally_kernel_core::{Decoded, Layouts, decode_array, decode_lines};

/// What a body may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Array,
    Lines,
}

type Flow = ([Vec<u8>; 3], u64);
type Sums = (u128, u128, u64);

/// The flows of a body in order of appearance, with their sums, and how many records there were.
type Found = Option<(Vec<(Flow, Sums)>, usize)>;

/// Reads a body with the layouts given, and fails where the strict reader alone says something else.
pub fn read_alike(form: Form, body: &[u8], records_max: usize, layouts: &mut Layouts) -> bool {
    let decode = if form == Form::Array { decode_array } else { decode_lines };
    let found = decode(body, records_max, layouts).map(rows);
    assert_eq!(found, strictly(form, body, records_max), "{}", body.escape_ascii());
    found.is_some()
}

fn rows(decoded: Decoded) -> (Vec<(Flow, Sums)>, usize) {
    let tally = decoded.tally;
    let row = |row: &flowtally_kernel_core::tally::Row| {
        let names = tally.names(row).map(<[u8]>::to_vec);
        ((names, row.hour.into()), (row.bytes_rx, row.bytes_tx, row.records))
    };
    (tally.rows().iter().map(row).collect(), decoded.records)
}

fn strictly(form: Form, body: &[u8], records_max: usize) -> Found {
    if str::from_utf8(body).is_err() || is_too_much(body, records_max) {
        return None;
    }
    let mut sums = Vec::new();
    let mut numbers = HashMap::new();
    let mut records = 0;
    let mut add = |at: usize| {
        records += 1;
        let reading = Reader::new(body, at, form == Form::Array).record()?;
        let [hour, rx, tx] = reading.integers;
        let flow: Flow = (reading.names.map(|name| name.to_vec()), hour);
        let number = *numbers.entry(flow.clone()).or_insert(sums.len());
        if number == sums.len() {
            sums.push((flow, (0, 0, 0)));
        }
        let row: &mut Sums = &mut sums[number].1;
        *row = (row.0 + u128::from(rx), row.1 + u128::from(tx), row.2 + 1);
        (records <= records_max).then_some(reading.end)
    };
    match form {
        Form::Array => array(body, &mut add)?,
        Form::Lines => lines(body, &mut add)?,
    }
    Some((sums, records))
}

fn array(body: &[u8], add: &mut impl FnMut(usize) -> Option<usize>) -> Option<()> {
    let space = |at| after_space(body, at, true);
    let mut at = space(0);
    (body.get(at) == Some(&b'[')).then_some(())?;
    at = space(at + 1);
    if body.get(at) != Some(&b']') {
        loop {
            at = space(add(at)?);
            match body.get(at)? {
                b',' => at = space(at + 1),
                b']' => break,
                _ => return None,
            }
        }
    }
    (space(at + 1) == body.len()).then_some(())
}

fn lines(body: &[u8], add: &mut impl FnMut(usize) -> Option<usize>) -> Option<()> {
    let mut start = 0;
    while start < body.len() {
        let size = body[start..].iter().position(|&byte| byte == b'\n');
        let end = size.map_or(body.len(), |size| start + size);
        let at = add(after_space(body, start, false))?;
        (after_space(body, at, false) == end).then_some(())?;
        start = end + 1;
    }
    Some(())
}
