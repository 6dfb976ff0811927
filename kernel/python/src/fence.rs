//! The fence around every entry: a panic inside becomes a Python exception of an ordinary kind.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::PyResult;
use pyo3::create_exception;
use pyo3::exceptions::PyRuntimeError;

create_exception!(
    flowtally_kernel,
    KernelError,
    PyRuntimeError,
    "A defect of the kernel: it stopped in the middle of its work, of which nothing is kept."
);

/// The outcome of some work, or a `KernelError` where it panicked.
///
/// What the work had borrowed is safe to use afterwards: tallies under construction are dropped with
/// it, and a layout is put in place whole or not at all.
pub fn fenced<T>(work: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        KernelError::new_err(format!("the kernel failed: {text}"))
    })
}
