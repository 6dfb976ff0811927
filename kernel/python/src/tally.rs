//! `KernelTally`: what `model.Tally` is to the twin, with its rows kept outside of Python.

use std::collections::HashSet;

use flowtally_kernel_core::blob::{self, Blob, Source};
use flowtally_kernel_core::tally::Account;
use flowtally_kernel_core::{Decoded, Tally};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::fence::fenced;

/// Fewer flows are encoded while the GIL is held.
const DETACH_FLOWS_MIN: usize = 64;

/// A batch summed by flow. It is only read.
#[pyclass(frozen, module = "flowtally_kernel")]
pub struct KernelTally {
    tally: Tally,
    /// How many records were summed.
    #[pyo3(get)]
    records: usize,
    // Both are asked for by the thread that commits, which has better things to do than to look at
    // every row.
    account: Account,
    hours: HashSet<u32>,
}

impl KernelTally {
    /// Looks at every row: best while the GIL is not held.
    pub fn new(decoded: Decoded) -> KernelTally {
        let Decoded { tally, records } = decoded;
        let mut hours = HashSet::new();
        let mut before = None;
        for row in tally.rows() {
            if before.replace(row.hour) != Some(row.hour) {
                hours.insert(row.hour);
            }
        }
        KernelTally { account: tally.account(), hours, tally, records }
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
    fn account(&self) -> (u64, u64, u128, u128) {
        let Account { records, bytes_rx, bytes_tx } = self.account;
        (1, records, bytes_rx, bytes_tx)
    }

    /// The hour labels it touches.
    fn hours(&self) -> HashSet<u32> {
        self.hours.clone()
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

/// What the journal keeps is made of: tallies, and blobs of the twin's.
#[derive(FromPyObject)]
pub enum Part<'py> {
    Tally(Bound<'py, KernelTally>),
    Blob(Bound<'py, PyBytes>),
}

/// One blob of the sums of all parts, or None where the twin has to make it.
#[pyfunction]
pub fn encode<'py>(
    py: Python<'py>,
    parts: Vec<Part<'py>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let sources: Option<Vec<Source<'_>>> = parts
        .iter()
        .map(|part| match part {
            Part::Tally(tally) => Some(Source::Tally(&tally.get().tally)),
            Part::Blob(blob) => {
                Blob::read(blob.as_bytes()).map(|blob| Source::Blob(Box::new(blob)))
            }
        })
        .collect();
    let Some(sources) = sources else { return Ok(None) };
    let rows: usize = sources.iter().map(Source::rows).sum();
    let work = || blob::encode(&sources);
    let blob = fenced(|| if rows < DETACH_FLOWS_MIN { work() } else { py.detach(work) })?;
    Ok(blob.map(|blob| PyBytes::new(py, &blob)))
}

fn text<'py>(py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::from_bytes(py, name)?.into_any())
}
