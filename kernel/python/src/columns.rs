//! Rows that come in columns: `tally_arrow` sums records, `sums_json` and `sums_ndjson` write sums.

use flowtally_kernel_core::rows::{self, Rows};
use flowtally_kernel_core::rules::Field;
use flowtally_kernel_core::sums::{Sums, write_json};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow::borrow::{Batch, each_batch, stream_of};
use crate::fence::fenced;
use crate::tally::KernelTally;

/// The tally of records in columns, or None where the twin has to look at them.
///
/// `rows` is anything that exports an Arrow stream. Its arrays must have been validated.
#[pyfunction]
pub fn tally_arrow(rows: &Bound<'_, PyAny>, records_max: usize) -> PyResult<Option<KernelTally>> {
    let Some(stream) = stream_of(rows)? else { return Ok(None) };
    let work = || {
        let mut found = Rows::new(records_max);
        each_batch(stream, |batch| found.add(&records(batch)?))?;
        Some(KernelTally::new(found.end()))
    };
    fenced(|| rows.py().detach(work))
}

fn records<'a>(batch: &Batch<'a>) -> Option<rows::Batch<'a>> {
    let names = [Field::SrcApp, Field::DestApp, Field::VpcId];
    let [Some(src), Some(dest), Some(vpc)] = names.map(|field| batch.column(field).strings())
    else {
        return None;
    };
    let integers = [Field::Hour, Field::BytesRx, Field::BytesTx];
    let [Some(hour), Some(rx), Some(tx)] = integers.map(|field| batch.column(field).integers())
    else {
        return None;
    };
    Some(rows::Batch { rows: batch.rows, names: [src, dest, vpc], integers: [hour, rx, tx] })
}

/// Sums in columns as a JSON array, or None where the twin has to write them.
#[pyfunction]
pub fn sums_json<'py>(rows: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let mut text = b"[".to_vec();
    if !write(rows, &mut text, b',')? {
        return Ok(None);
    }
    if text.len() > 1 {
        text.pop();
    }
    text.push(b']');
    Ok(Some(PyBytes::new(rows.py(), &text)))
}

/// Sums in columns as NDJSON, or None where the twin has to write them.
#[pyfunction]
pub fn sums_ndjson<'py>(rows: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let mut text = Vec::new();
    let written = write(rows, &mut text, b'\n')?;
    Ok(written.then(|| PyBytes::new(rows.py(), &text)))
}

fn write(rows: &Bound<'_, PyAny>, text: &mut Vec<u8>, end: u8) -> PyResult<bool> {
    let Some(stream) = stream_of(rows)? else { return Ok(false) };
    let work = || each_batch(stream, |batch| write_json(text, &sums(batch)?, end)).is_some();
    fenced(|| rows.py().detach(work))
}

/// The columns of sums.
pub fn sums<'a>(batch: &Batch<'a>) -> Option<Sums<'a>> {
    let names = [Field::SrcApp, Field::DestApp, Field::VpcId];
    let [Some(src), Some(dest), Some(vpc)] = names.map(|field| batch.column(field).strings())
    else {
        return None;
    };
    Some(Sums {
        rows: batch.rows,
        names: [src, dest, vpc],
        hour: batch.column(Field::Hour).integers()?,
        bytes_rx: batch.column(Field::BytesRx).decimals()?,
        bytes_tx: batch.column(Field::BytesTx).decimals()?,
    })
}
