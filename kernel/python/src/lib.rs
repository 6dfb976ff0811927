//! The native kernel as a Python module: what stands here is a border, the work is done in the core.
//!
//! Every entry is fenced: a panic becomes a `KernelError`, which is a `RuntimeError`, and no panic
//! reaches Python as a `BaseException` or an abort. Bodies are `bytes`, which do not change, so that
//! they can be read while other threads run Python.

mod arrow;
mod columns;
mod fence;
mod merged;
mod sorted;
mod tally;

use std::cell::RefCell;
use std::thread::LocalKey;

use flowtally_kernel_core::{Decoded, Layouts, decode_array, decode_lines, rules};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::columns::{sums_json, sums_ndjson, tally_arrow};
use crate::fence::{KernelError, fenced};
use crate::merged::{MergedRows, merge};
use crate::sorted::{SortedSums, sum_rows};
use crate::tally::{KernelTally, encode};

/// Smaller bodies are read while the GIL is held: giving it away and back costs more.
const DETACH_BYTES_MIN: usize = 4_096;

type Decode = fn(&[u8], usize, &mut Layouts) -> Option<Decoded>;

thread_local! {
    /// The layouts met by this thread. Those of arrays may hold newlines: they never serve lines.
    static ARRAY_LAYOUTS: RefCell<Layouts> = const { RefCell::new(Layouts::new()) };
    static LINE_LAYOUTS: RefCell<Layouts> = const { RefCell::new(Layouts::new()) };
}

/// The tally of a JSON array of records, or None where the twin has to look at it.
#[pyfunction]
fn decode_json(body: &Bound<'_, PyBytes>, records_max: usize) -> PyResult<Option<KernelTally>> {
    decode(body, records_max, decode_array, &ARRAY_LAYOUTS)
}

/// The tally of NDJSON, one record a line, or None where the twin has to look at it.
#[pyfunction]
fn decode_ndjson(body: &Bound<'_, PyBytes>, records_max: usize) -> PyResult<Option<KernelTally>> {
    decode(body, records_max, decode_lines, &LINE_LAYOUTS)
}

fn decode(
    body: &Bound<'_, PyBytes>,
    records_max: usize,
    decode: Decode,
    layouts: &'static LocalKey<RefCell<Layouts>>,
) -> PyResult<Option<KernelTally>> {
    let py = body.py();
    let body = body.as_bytes();
    let work = || {
        let decoded = layouts.with_borrow_mut(|layouts| decode(body, records_max, layouts));
        decoded.map(KernelTally::new)
    };
    fenced(|| if body.len() < DETACH_BYTES_MIN { work() } else { py.detach(work) })
}

#[pymodule]
fn flowtally_kernel(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("NAME_BYTES_MAX", rules::NAME_BYTES_MAX)?;
    module.add("HOUR_MAX", rules::HOUR_MAX)?;
    module.add("RECORD_BYTES_VALUE_MAX", rules::VALUE_MAX)?;
    module.add("UNKNOWN_DEPTH_MAX", rules::UNKNOWN_DEPTH_MAX)?;
    module.add("CLOSE_LOOK_MARKS_PER_RECORD_MAX", rules::MARKS_PER_RECORD_MAX)?;
    module.add("KernelError", module.py().get_type::<KernelError>())?;
    module.add_class::<KernelTally>()?;
    module.add_class::<MergedRows>()?;
    module.add_class::<SortedSums>()?;
    module.add_function(wrap_pyfunction!(decode_json, module)?)?;
    module.add_function(wrap_pyfunction!(decode_ndjson, module)?)?;
    module.add_function(wrap_pyfunction!(tally_arrow, module)?)?;
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(merge, module)?)?;
    module.add_function(wrap_pyfunction!(sum_rows, module)?)?;
    module.add_function(wrap_pyfunction!(sums_json, module)?)?;
    module.add_function(wrap_pyfunction!(sums_ndjson, module)?)
}
