//! `KernelTally`: what `model.Tally` is to the twin, with its rows kept outside of Python.

use std::collections::HashSet;

use flowtally_kernel_core::{Decoded, Tally, blob};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::fence::fenced;

/// Tallies of fewer flows are encoded while the GIL is held.
const DETACH_FLOWS_MIN: usize = 64;

/// A batch summed by flow. It is only read.
#[pyclass(frozen, module = "flowtally_kernel")]
pub struct KernelTally {
    tally: Tally,
    /// How many records were summed.
    #[pyo3(get)]
    records: usize,
}

impl KernelTally {
    pub fn new(decoded: Decoded) -> KernelTally {
        KernelTally { tally: decoded.tally, records: decoded.records }
    }
}

#[pymethods]
impl KernelTally {
    /// The number of flows.
    fn __len__(&self) -> usize {
        self.tally.rows().len()
    }

    fn __repr__(&self) -> String {
        format!("KernelTally(flows={}, records={})", self.__len__(), self.records)
    }

    /// What it adds to the ledger: batches, records, bytes_rx, bytes_tx.
    fn account(&self) -> PyResult<(u64, u64, u128, u128)> {
        let account = fenced(|| self.tally.account())?;
        Ok((1, account.records, account.bytes_rx, account.bytes_tx))
    }

    /// The hour labels it touches.
    fn hours(&self) -> PyResult<HashSet<u32>> {
        fenced(|| self.tally.rows().iter().map(|row| row.hour).collect())
    }

    /// Its bytes for the journal.
    fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let work = || blob::encode(&self.tally);
        let few = self.__len__() < DETACH_FLOWS_MIN;
        match fenced(|| if few { work() } else { py.detach(work) })? {
            Some(blob) => Ok(PyBytes::new(py, &blob)),
            None => Err(PyOverflowError::new_err("the names of a tally are longer than 4 GiB")),
        }
    }

    /// The rows as `model.Tally` holds them: a dict from flows to lists of three sums.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        fenced(|| {
            let rows = PyDict::new(py);
            for row in self.tally.rows() {
                let [src, dest, vpc] = self.tally.names(row).map(|name| text(py, name));
                let hour = row.hour.into_pyobject(py)?.into_any();
                let flow = PyTuple::new(py, [src?, dest?, vpc?, hour])?;
                let sums = [
                    row.bytes_rx.into_pyobject(py)?,
                    row.bytes_tx.into_pyobject(py)?,
                    row.records.into_pyobject(py)?,
                ];
                rows.set_item(flow, PyList::new(py, sums)?)?;
            }
            Ok(rows)
        })?
    }
}

fn text<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::from_bytes(py, name)?.into_any())
}
