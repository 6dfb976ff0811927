//! `sum_rows` and `SortedSums`: the rows of a store as the sums of a read.

use std::sync::Arc;

use flowtally_kernel_core::answer::Answer;
use flowtally_kernel_core::sorted::{self as core, Sorting};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use crate::arrow::borrow::{each_batch, stream_of};
use crate::arrow::{ArrowArrayStream, STREAM};
use crate::columns::sums;
use crate::fence::fenced;

/// The sums of a read, kept outside of Python: made into text, or into columns, for who asks.
#[pyclass(frozen, module = "flowtally_kernel")]
pub struct SortedSums {
    sums: core::SortedSums,
}

#[pymethods]
impl SortedSums {
    /// The number of flows.
    fn __len__(&self) -> usize {
        self.sums.flows()
    }

    /// A JSON array of objects.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.text(py, true)
    }

    /// One object a line.
    fn ndjson<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.text(py, false)
    }

    /// A new stream of the rows, as of `MergedRows`.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let columns = || Arc::new(self.sums.columns());
        let stream = fenced(|| ArrowArrayStream::new(py.detach(columns), false))?;
        PyCapsule::new_with_value(py, stream, STREAM)
    }
}

impl SortedSums {
    /// Written where Python has it: it is large, and a copy would be a good part of the work.
    fn text<'py>(&self, py: Python<'py>, as_array: bool) -> PyResult<Bound<'py, PyBytes>> {
        let answer = fenced(|| py.detach(|| Answer::of(&self.sums, as_array)))?;
        PyBytes::new_with(py, answer.bytes(), |text| fenced(|| py.detach(|| answer.write(text))))
    }
}

/// The rows of a store as the sums of a read, by flow and in the order of their names' bytes, or None
/// where the store has to do it.
#[pyfunction]
pub fn sum_rows(rows: &Bound<'_, PyAny>) -> PyResult<Option<SortedSums>> {
    let Some(stream) = stream_of(rows)? else { return Ok(None) };
    let work = || {
        let mut sorting = Sorting::default();
        each_batch(stream, |batch| sorting.add(&sums(batch)?))?;
        sorting.end().map(|sums| SortedSums { sums })
    };
    fenced(|| rows.py().detach(work))
}
