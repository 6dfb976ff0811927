//! Merged rows lent out without a copy.
//!
//! A producer's part is small: it lends its buffers until `release` is called. Everything lent is
//! owned by an `Arc` of the columns, of which each array holds one.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use flowtally_kernel_core::merge::{Columns, Text};

use super::{ArrowArray, ArrowArrayStream, ArrowSchema};

/// errno's EIO, the same number wherever Python runs.
const EIO: c_int = 5;
const NULLABLE: i64 = 2;

const UTF8: &CStr = c"u";
const INT64: &CStr = c"l";
const DECIMAL: &CStr = c"d:38,0";
/// The columns' names and formats; the last one only where it was told.
const COLUMNS: [(&CStr, &CStr); 8] = [
    (c"src_app", UTF8),
    (c"dest_app", UTF8),
    (c"vpc_id", UTF8),
    (c"hour", INT64),
    (c"bytes_rx", DECIMAL),
    (c"bytes_tx", DECIMAL),
    (c"records", INT64),
    (c"arrival_hour", INT64),
];

/// What a stream owns: the chunks, and which one is next.
struct Source {
    chunks: Arc<Vec<Columns>>,
    told: bool,
    next: usize,
}

impl ArrowArrayStream {
    /// A stream of chunks.
    pub fn new(chunks: Arc<Vec<Columns>>, told: bool) -> ArrowArrayStream {
        let source = Box::new(Source { chunks, told, next: 0 });
        ArrowArrayStream {
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: Some(release_stream),
            private_data: Box::into_raw(source).cast(),
        }
    }
}

unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: the caller passes a stream of this module that is not released, so that its private
    // data is the `Source` that `new` put there; nobody else uses it during the call.
    let source = unsafe { &*(*stream).private_data.cast::<Source>() };
    let Ok(schema) = catch_unwind(AssertUnwindSafe(|| schema_of(source.told))) else {
        return EIO;
    };
    // SAFETY: the caller passes a place for a schema, which need not hold one: nothing is dropped.
    unsafe { out.write(schema) };
    0
}

unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: as in `get_schema`; the reference is the only one, as calls do not overlap.
    let source = unsafe { &mut *(*stream).private_data.cast::<Source>() };
    let Ok(array) = catch_unwind(AssertUnwindSafe(|| {
        let array = batch_of(source);
        source.next += 1;
        array
    })) else {
        return EIO;
    };
    // SAFETY: as in `get_schema`, for an array.
    unsafe { out.write(array) };
    0
}

unsafe extern "C" fn get_last_error(_stream: *mut ArrowArrayStream) -> *const c_char {
    c"the kernel failed while it handed over merged rows".as_ptr()
}

unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    // SAFETY: the stream is valid and not released, so that its private data is the box that `new`
    // gave up. It is taken back once: `release` is null from here on.
    unsafe {
        drop(Box::from_raw((*stream).private_data.cast::<Source>()));
        (*stream).release = None;
        (*stream).private_data = null_mut();
    }
}

/// A struct of the columns.
fn schema_of(told: bool) -> ArrowSchema {
    let columns = &COLUMNS[..COLUMNS.len() - usize::from(!told)];
    let children = columns.iter().map(|(name, format)| schema(name, format, Vec::new()));
    schema(c"", c"+s", children.collect())
}

/// A pointer that owns what it points to, until a release takes it back.
fn given_up<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// What a schema owns: its children, as pointers that came from boxes.
struct SchemaChildren(Vec<*mut ArrowSchema>);

fn schema(name: &'static CStr, format: &'static CStr, children: Vec<ArrowSchema>) -> ArrowSchema {
    let mut held = Box::new(SchemaChildren(children.into_iter().map(given_up).collect()));
    ArrowSchema {
        format: format.as_ptr(),
        name: name.as_ptr(),
        metadata: null(),
        flags: NULLABLE,
        n_children: held.0.len() as i64,
        children: held.0.as_mut_ptr(),
        dictionary: null_mut(),
        release: Some(release_schema),
        private_data: Box::into_raw(held).cast(),
    }
}

unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the schema is valid and not released, so that its private data is the box that
    // `schema` gave up, and each child a box given up there as well. A child that was moved away
    // has a null `release` and is only freed; the others are released first.
    unsafe {
        let held = Box::from_raw((*schema).private_data.cast::<SchemaChildren>());
        for &child in &held.0 {
            if let Some(release) = (*child).release {
                release(child);
            }
            drop(Box::from_raw(child));
        }
        (*schema).release = None;
        (*schema).private_data = null_mut();
    }
}

/// The next chunk as a struct array; where there is none, an array that is released already.
fn batch_of(source: &Source) -> ArrowArray {
    let Some(chunk) = source.chunks.get(source.next) else { return ArrowArray::released() };
    let lent = |buffers| array(chunk.hour.len(), buffers, Vec::new(), &source.chunks);
    let fixed = |values: *const c_void| lent(vec![null(), values]);
    let text =
        |text: &Text| lent(vec![null(), text.offsets.as_ptr().cast(), text.text.as_ptr().cast()]);
    let mut children: Vec<ArrowArray> = chunk.names.iter().map(text).collect();
    children.push(fixed(chunk.hour.as_ptr().cast()));
    children.push(fixed(chunk.bytes_rx.as_ptr().cast()));
    children.push(fixed(chunk.bytes_tx.as_ptr().cast()));
    children.push(fixed(chunk.records.as_ptr().cast()));
    children.extend(chunk.arrival_hour.iter().map(|hours| fixed(hours.as_ptr().cast())));
    array(chunk.hour.len(), vec![null()], children, &source.chunks)
}

/// What an array owns: a share of the columns that its buffers point into, the list of those
/// pointers, and its children, as pointers that came from boxes.
struct ArrayParts {
    _lender: Arc<Vec<Columns>>,
    buffers: Vec<*const c_void>,
    children: Vec<*mut ArrowArray>,
}

/// An array without nulls, whose buffers are null or point into the lender's columns: these neither
/// change nor move while a share of them is held.
fn array(
    length: usize,
    buffers: Vec<*const c_void>,
    children: Vec<ArrowArray>,
    lender: &Arc<Vec<Columns>>,
) -> ArrowArray {
    let children = children.into_iter().map(given_up).collect();
    let mut held = Box::new(ArrayParts { _lender: Arc::clone(lender), buffers, children });
    ArrowArray {
        length: length as i64,
        null_count: 0,
        offset: 0,
        n_buffers: held.buffers.len() as i64,
        n_children: held.children.len() as i64,
        buffers: held.buffers.as_mut_ptr(),
        children: held.children.as_mut_ptr(),
        dictionary: null_mut(),
        release: Some(release_array),
        private_data: Box::into_raw(held).cast(),
    }
}

unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: the array is valid and not released, so that its private data is the box that `array`
    // gave up, and each child a box given up there as well. A child that was moved away has a null
    // `release` and is only freed; the others are released first.
    unsafe {
        let held = Box::from_raw((*array).private_data.cast::<ArrayParts>());
        for &child in &held.children {
            if let Some(release) = (*child).release {
                release(child);
            }
            drop(Box::from_raw(child));
        }
        (*array).release = None;
        (*array).private_data = null_mut();
    }
}
