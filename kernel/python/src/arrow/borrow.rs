//! Columns of others, read where they stand.
//!
//! What a producer says is looked at before it is used: names, formats, counts of buffers and
//! children, lengths. What cannot be looked at is how long a buffer is; the interface promises that
//! it holds `offset + length` values. So batches that came over a network have to be validated by
//! who made the structures: pyarrow's `validate(full=True)` does that.

use std::ffi::{CStr, c_void};
use std::mem::replace;
use std::slice::from_raw_parts;

use flowtally_kernel_core::columns::{Integers, Strings};
use flowtally_kernel_core::rules::{FIELDS, Field};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::{ArrowArray, ArrowArrayStream, ArrowSchema, STREAM};

/// The stream of an object's rows; `None` where it was read already.
pub fn stream_of(rows: &Bound<'_, PyAny>) -> PyResult<Option<ArrowArrayStream>> {
    let capsule = rows.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
    let place = capsule.pointer_checked(Some(STREAM))?.cast::<ArrowArrayStream>();
    // SAFETY: a capsule of this name points to a stream that is valid as long as the capsule is, and
    // is used by one thread at a time: that is us, who hold both the capsule and the GIL. Replacing
    // moves the stream out, and leaves one that says that it was released.
    let stream = replace(unsafe { &mut *place.as_ptr() }, ArrowArrayStream::released());
    Ok(stream.release.is_some().then_some(stream))
}

/// Reads the batches of a stream that have rows; `None` where it has no such columns as are read
/// here, where it fails, or where `read` says so.
pub fn each_batch(
    mut stream: ArrowArrayStream,
    mut read: impl FnMut(&Batch<'_>) -> Option<()>,
) -> Option<()> {
    let schema = schema_of(&mut stream)?;
    loop {
        let array = next_of(&mut stream)?;
        if array.0.release.is_none() {
            return Some(());
        }
        let batch = Batch::of(&schema.0, &array.0)?;
        if batch.rows > 0 {
            read(&batch)?;
        }
    }
}

/// A schema that is ours: released when it is dropped.
struct OwnSchema(ArrowSchema);

impl Drop for OwnSchema {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: the schema is valid, and not released yet.
            unsafe { release(&mut self.0) }
        }
    }
}

/// An array that is ours: released when it is dropped.
struct OwnArray(ArrowArray);

impl Drop for OwnArray {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: the array is valid, and not released yet.
            unsafe { release(&mut self.0) }
        }
    }
}

fn schema_of(stream: &mut ArrowArrayStream) -> Option<OwnSchema> {
    let mut schema = OwnSchema(ArrowSchema::released());
    let get = stream.get_schema?;
    // SAFETY: the stream is valid, not released, and used by nobody else; `schema` is a place for a
    // schema. Where the call fails it may have written nothing: what stands there is released.
    let failed = unsafe { get(stream, &mut schema.0) };
    (failed == 0 && schema.0.release.is_some()).then_some(schema)
}

fn next_of(stream: &mut ArrowArrayStream) -> Option<OwnArray> {
    let mut array = OwnArray(ArrowArray::released());
    let get = stream.get_next?;
    // SAFETY: as in `schema_of`, for an array.
    let failed = unsafe { get(stream, &mut array.0) };
    (failed == 0).then_some(array)
}

/// The six columns of some rows, in the order of `Field`.
pub struct Batch<'a> {
    pub rows: usize,
    columns: [Column<'a>; FIELDS],
}

impl<'a> Batch<'a> {
    /// `None` where a field has no column or several, or the structures contradict each other.
    fn of(schema: &'a ArrowSchema, array: &'a ArrowArray) -> Option<Batch<'a>> {
        let rows = usize::try_from(array.length).ok()?;
        let whole = Column { schema, array, start: usize::try_from(array.offset).ok()?, rows };
        if schema.format()? != b"+s" || !whole.is_without_nulls()? {
            return None;
        }
        let mut columns = [None; FIELDS];
        let (schemas, arrays) = (children_of_schema(schema)?, children_of_array(array)?);
        if schemas.len() != arrays.len() {
            return None;
        }
        for (schema, array) in schemas.iter().zip(arrays) {
            let Some(field) = schema.name().and_then(Field::of) else { continue };
            if columns[field as usize].replace(Column::of(schema, array, &whole)?).is_some() {
                return None;
            }
        }
        let [Some(src), Some(dest), Some(vpc), Some(hour), Some(rx), Some(tx)] = columns else {
            return None;
        };
        Some(Batch { rows, columns: [src, dest, vpc, hour, rx, tx] })
    }

    /// A field's column.
    pub fn column(&self, field: Field) -> Column<'a> {
        self.columns[field as usize]
    }
}

/// One column: so many rows of an array, from a place in its buffers on.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    schema: &'a ArrowSchema,
    array: &'a ArrowArray,
    start: usize,
    rows: usize,
}

impl<'a> Column<'a> {
    /// The rows of a child that belong to those of its struct.
    fn of(
        schema: &'a ArrowSchema,
        array: &'a ArrowArray,
        whole: &Column<'a>,
    ) -> Option<Column<'a>> {
        let start = usize::try_from(array.offset).ok()?.checked_add(whole.start)?;
        let needed = whole.start.checked_add(whole.rows)?;
        let long_enough = usize::try_from(array.length).ok()? >= needed;
        long_enough.then_some(Column { schema, array, start, rows: whole.rows })
    }

    /// The column as strings, plain or coded by a dictionary; `None` where it is anything else.
    pub fn strings(&self) -> Option<Strings<'a>> {
        let dictionaries = (self.schema.dictionary, self.array.dictionary);
        // SAFETY: a dictionary is null or valid, and lives as long as what it belongs to.
        let (schema, array) = match unsafe { (dictionaries.0.as_ref(), dictionaries.1.as_ref()) } {
            (None, None) => return self.plain_strings(),
            (Some(schema), Some(array)) => (schema, array),
            _ => return None,
        };
        let values = Column {
            schema,
            array,
            start: usize::try_from(array.offset).ok()?,
            rows: usize::try_from(array.length).ok()?,
        };
        if !schema.dictionary.is_null() {
            return None;
        }
        Some(Strings::Coded(self.plain_integers()?, Box::new(values.plain_strings()?)))
    }

    /// The column as integers; `None` where it is anything else.
    pub fn integers(&self) -> Option<Integers<'a>> {
        let is_plain = self.schema.dictionary.is_null() && self.array.dictionary.is_null();
        is_plain.then(|| self.plain_integers()).flatten()
    }

    /// The column as decimals of 38 digits without a fraction; `None` where it is anything else.
    pub fn decimals(&self) -> Option<&'a [[u8; 16]]> {
        let format = self.schema.format()?;
        let fits = matches!(format, b"d:38,0" | b"d:38,0,128") && self.is_without_nulls()?;
        fits.then(|| self.values()).flatten()
    }

    fn plain_strings(&self) -> Option<Strings<'a>> {
        if !self.is_without_nulls()? {
            return None;
        }
        if self.rows == 0 {
            return Some(Strings::Short(&[], &[]));
        }
        match self.schema.format()? {
            b"u" => {
                let offsets = self.several(1, self.rows.checked_add(1)?)?;
                let end = i32::from_le_bytes(*offsets.last()?);
                Some(Strings::Short(offsets, self.bytes(2, end.try_into().ok()?)?))
            }
            b"U" => {
                let offsets = self.several(1, self.rows.checked_add(1)?)?;
                let end = i64::from_le_bytes(*offsets.last()?);
                Some(Strings::Long(offsets, self.bytes(2, end.try_into().ok()?)?))
            }
            b"vu" => {
                // Between the views and the last buffer, which has their sizes, are the texts.
                let texts = usize::try_from(self.array.n_buffers).ok()?.checked_sub(3)?;
                let sizes: &[[u8; 8]] = self.leading(2 + texts, texts)?;
                let text = |(number, size): (usize, &[u8; 8])| {
                    self.bytes(2 + number, i64::from_le_bytes(*size).try_into().ok()?)
                };
                let texts = sizes.iter().enumerate().map(text).collect::<Option<_>>()?;
                Some(Strings::Views(self.values()?, texts))
            }
            _ => None,
        }
    }

    fn plain_integers(&self) -> Option<Integers<'a>> {
        if !self.is_without_nulls()? {
            return None;
        }
        Some(match self.schema.format()? {
            b"c" => Integers::I8(self.values()?),
            b"C" => Integers::U8(self.values()?),
            b"s" => Integers::I16(self.values()?),
            b"S" => Integers::U16(self.values()?),
            b"i" => Integers::I32(self.values()?),
            b"I" => Integers::U32(self.values()?),
            b"l" => Integers::I64(self.values()?),
            b"L" => Integers::U64(self.values()?),
            _ => return None,
        })
    }

    /// Whether no row is null: the array has no nulls, or their bitmap says so.
    fn is_without_nulls(&self) -> Option<bool> {
        let has_bitmap = self.array.n_buffers > 0 && !self.buffer(0)?.is_null();
        if self.array.null_count == 0 || !has_bitmap {
            return Some(self.array.null_count <= 0);
        }
        let end = self.start.checked_add(self.rows)?;
        let bitmap = self.bytes(0, end.div_ceil(8))?;
        Some((self.start..end).all(|row| bitmap[row / 8] >> (row % 8) & 1 == 1))
    }

    /// A value of fixed size for each row.
    fn values<const N: usize>(&self) -> Option<&'a [[u8; N]]> {
        self.several(1, self.rows)
    }

    /// So many values of fixed size, from the first row's on.
    fn several<const N: usize>(&self, buffer: usize, count: usize) -> Option<&'a [[u8; N]]> {
        self.leading(buffer, self.start.checked_add(count)?)?.get(self.start..)
    }

    /// So many values of fixed size, from the buffer's first on.
    fn leading<const N: usize>(&self, buffer: usize, count: usize) -> Option<&'a [[u8; N]]> {
        Some(self.bytes(buffer, count.checked_mul(N)?)?.as_chunks().0)
    }

    /// The first bytes of a buffer, of which the interface promises so many.
    fn bytes(&self, buffer: usize, size: usize) -> Option<&'a [u8]> {
        if size == 0 {
            return Some(&[]);
        }
        let start = self.buffer(buffer)?.cast::<u8>();
        if start.is_null() || isize::try_from(size).is_err() {
            return None;
        }
        // SAFETY: the buffer is there, and has as many bytes as its rows (or, of a text, the last
        // offset; of a view's text, its noted size) take. It is neither changed nor given back
        // before the array is released, and the array is borrowed for as long as the bytes are.
        // Bytes need no alignment, and any of them is a `u8`.
        Some(unsafe { from_raw_parts(start, size) })
    }

    /// The address of a buffer, which may be null.
    fn buffer(&self, number: usize) -> Option<*const c_void> {
        let count = usize::try_from(self.array.n_buffers).ok()?;
        if number >= count || self.array.buffers.is_null() {
            return None;
        }
        // SAFETY: `buffers` has `n_buffers` addresses, and this is one of them.
        Some(unsafe { *self.array.buffers.add(number) })
    }
}

impl ArrowSchema {
    fn format(&self) -> Option<&[u8]> {
        // SAFETY: a format is null or a string that ends with a zero and lives as long as the schema,
        // which is borrowed for as long as the text.
        (!self.format.is_null()).then(|| unsafe { CStr::from_ptr(self.format) }.to_bytes())
    }

    fn name(&self) -> Option<&[u8]> {
        // SAFETY: as in `format`, for a name.
        (!self.name.is_null()).then(|| unsafe { CStr::from_ptr(self.name) }.to_bytes())
    }
}

fn children_of_schema(schema: &ArrowSchema) -> Option<Vec<&ArrowSchema>> {
    let count = usize::try_from(schema.n_children).ok()?;
    if count > 0 && schema.children.is_null() {
        return None;
    }
    // SAFETY: `children` has `n_children` pointers, each to a valid schema that lives as long as its
    // parent; `as_ref` looks for null all the same.
    (0..count).map(|number| unsafe { (*schema.children.add(number)).as_ref() }).collect()
}

fn children_of_array(array: &ArrowArray) -> Option<Vec<&ArrowArray>> {
    let count = usize::try_from(array.n_children).ok()?;
    if count > 0 && array.children.is_null() {
        return None;
    }
    // SAFETY: as in `children_of_schema`, for arrays.
    (0..count).map(|number| unsafe { (*array.children.add(number)).as_ref() }).collect()
}
