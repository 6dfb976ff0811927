//! `merge` and `MergedRows`: many tallies as one stream of Arrow batches, for the applier.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowtally_kernel_core::merge::{self as core, Columns};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use crate::arrow::{ArrowArrayStream, STREAM};
use crate::fence::fenced;

/// Rows in columns, which pyarrow, DuckDB and others read by the Arrow PyCapsule interface.
///
/// Columns: `src_app, dest_app, vpc_id` (string), `hour` (int64), `bytes_rx, bytes_tx`
/// (decimal128(38, 0)), `records` (int64); and `arrival_hour` (int64) where these were told.
#[pyclass(frozen, module = "flowtally_kernel")]
pub struct MergedRows {
    chunks: Arc<Vec<Columns>>,
    told: bool,
    /// Each hour label that is touched, and the last blob that touches it, counted from 0.
    #[pyo3(get)]
    hours: BTreeMap<u32, usize>,
    /// Each arrival hour that was told, and how many rows it has.
    #[pyo3(get)]
    arrival_hours: BTreeMap<i64, usize>,
}

#[pymethods]
impl MergedRows {
    /// The number of rows.
    fn __len__(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.hour.len()).sum()
    }

    /// A new stream of the rows. They come as they are, whatever schema is asked for.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let stream = fenced(|| ArrowArrayStream::new(Arc::clone(&self.chunks), self.told))?;
        PyCapsule::new_with_value(py, stream, STREAM)
    }
}

/// The rows of several blobs, merged by flow, or None where the twin has to look at them.
///
/// With `arrival_hours`, one for each blob, they are merged by flow and arrival hour.
#[pyfunction]
#[pyo3(signature = (blobs, arrival_hours=None))]
pub fn merge(
    py: Python<'_>,
    blobs: Vec<Bound<'_, PyBytes>>,
    arrival_hours: Option<Vec<i64>>,
) -> PyResult<Option<MergedRows>> {
    let blobs: Vec<&[u8]> = blobs.iter().map(|blob| blob.as_bytes()).collect();
    let told = arrival_hours.is_some();
    let work = || core::merge(&blobs, arrival_hours.as_deref());
    let merged = fenced(|| py.detach(work))?;
    Ok(merged.map(|merged| MergedRows {
        chunks: Arc::new(merged.chunks),
        told,
        hours: merged.hours,
        arrival_hours: merged.arrival_hours,
    }))
}
