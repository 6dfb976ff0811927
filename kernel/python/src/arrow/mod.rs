//! The Arrow C data interface, written out by hand: columns pass between Python's libraries and the
//! core without a copy, and without another library.
//!
//! <https://arrow.apache.org/docs/format/CDataInterface.html>, `CStreamInterface.html` and
//! `CDataInterface/PyCapsuleInterface.html` say what the structures mean. [`lend`] hands columns out,
//! [`borrow`] takes them in.
//!
//! This is the only unsafe code of the kernel. What both sides keep to (the interface's rules): they
//! pass pointers to structures that are valid, call `release` at most once, on a structure whose
//! `release` is not null, and not from two threads at once; a structure may be moved, and used by
//! another thread than the one that made it; buffers do not change until they are released.

pub mod borrow;
mod lend;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

#[cfg(target_endian = "big")]
compile_error!("the columns are handed over as they stand in memory: little-endian");

/// What a capsule with a stream is called.
pub const STREAM: &CStr = c"arrow_array_stream";

/// `struct ArrowSchema` of the interface.
#[repr(C)]
pub struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray` of the interface.
#[repr(C)]
pub struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// `struct ArrowArrayStream` of the interface.
#[repr(C)]
pub struct ArrowArrayStream {
    get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    private_data: *mut c_void,
}

impl ArrowSchema {
    /// A place for one.
    fn released() -> ArrowSchema {
        ArrowSchema {
            format: null(),
            name: null(),
            metadata: null(),
            flags: 0,
            n_children: 0,
            children: null_mut(),
            dictionary: null_mut(),
            release: None,
            private_data: null_mut(),
        }
    }
}

impl ArrowArray {
    /// A place for one; of a stream, what says that it has ended.
    fn released() -> ArrowArray {
        ArrowArray {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: null_mut(),
            children: null_mut(),
            dictionary: null_mut(),
            release: None,
            private_data: null_mut(),
        }
    }
}

impl ArrowArrayStream {
    /// What is left where one was moved away.
    fn released() -> ArrowArrayStream {
        ArrowArrayStream {
            get_schema: None,
            get_next: None,
            get_last_error: None,
            release: None,
            private_data: null_mut(),
        }
    }
}

// SAFETY: a stream may be used by one thread after the other, by the rules above. Ours
// owns a `Source`, which is `Send` itself: it holds an `Arc` of plain vectors.
unsafe impl Send for ArrowArrayStream {}

impl Drop for ArrowArrayStream {
    fn drop(&mut self) {
        // A consumer that moved the stream away has set `release` to null.
        if let Some(release) = self.release {
            // SAFETY: `self` is valid, and not released yet.
            unsafe { release(self) }
        }
    }
}
