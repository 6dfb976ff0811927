//! Lending and borrowing without Python between them, which Miri can watch.

use std::ptr::addr_of_mut;
use std::sync::Arc;

use flowtally_kernel_core::columns::Strings;
use flowtally_kernel_core::merge::{Columns, Text};
use flowtally_kernel_core::rules::Field;

use super::borrow::each_batch;
use super::{ArrowArray, ArrowArrayStream, ArrowSchema};

fn chunk(name: &str, rows: usize) -> Columns {
    let text = || Text {
        offsets: (0..=rows).map(|row| (row * name.len()) as i32).collect(),
        text: name.repeat(rows).into_bytes(),
    };
    Columns {
        names: [text(), text(), text()],
        hour: vec![7; rows],
        bytes_rx: (0..rows as u128).collect(),
        bytes_tx: vec![10_u128.pow(38) - 1; rows],
        records: vec![1; rows],
        arrival_hour: None,
    }
}

fn stream(chunks: Vec<Columns>) -> ArrowArrayStream {
    ArrowArrayStream::new(Arc::new(chunks), false)
}

#[test]
fn what_is_lent_is_read() {
    let mut read = Vec::new();
    let done = each_batch(stream(vec![chunk("é", 3), chunk("", 0), chunk("abc", 2)]), |batch| {
        let names = batch.column(Field::VpcId).strings()?;
        let sums = batch.column(Field::BytesRx).decimals()?;
        assert!(batch.column(Field::BytesRx).integers().is_none());
        assert!(batch.column(Field::Hour).strings().is_none());
        assert_eq!(batch.column(Field::Hour).integers()?.get(batch.rows - 1), Some(7));
        assert!(matches!(names, Strings::Short(..)) && names.get(batch.rows).is_none());
        assert_eq!(sums.len(), batch.rows);
        read.push((batch.rows, names.get(1)?.to_vec()));
        Some(())
    });
    assert_eq!(done, Some(()));
    assert_eq!(read, [(3, "é".as_bytes().to_vec()), (2, b"abc".to_vec())]);
}

#[test]
fn what_is_not_read_to_its_end_is_given_back() {
    let chunks = Arc::new(vec![chunk("a", 1), chunk("b", 1)]);
    let mut read = 0;
    let stop = each_batch(ArrowArrayStream::new(Arc::clone(&chunks), false), |_| {
        read += 1;
        None
    });
    assert_eq!((stop, read, Arc::strong_count(&chunks)), (None, 1, 1));
    drop(ArrowArrayStream::new(Arc::clone(&chunks), false));
    assert_eq!(Arc::strong_count(&chunks), 1);
    assert!(each_batch(ArrowArrayStream::released(), |_| Some(())).is_none());
}

/// Consumers such as pyarrow move the children out, release their parent, and keep the children.
#[test]
fn children_outlive_their_parent() {
    let chunks = Arc::new(vec![chunk("abc", 2)]);
    let mut stream = ArrowArrayStream::new(Arc::clone(&chunks), false);
    let (mut schema, mut array) = (ArrowSchema::released(), ArrowArray::released());
    // SAFETY: the stream is valid and not released; both places are places.
    unsafe {
        assert_eq!(stream.get_schema.unwrap()(&mut stream, &mut schema), 0);
        assert_eq!(stream.get_next.unwrap()(&mut stream, &mut array), 0);
    }
    drop(stream);
    // SAFETY: both have children, which are moved out as the interface asks: copied, and then marked
    // as released where they were. What was moved is released once, after its parent.
    unsafe {
        let place = *schema.children.add(3);
        let mut hour = place.read();
        (*place).release = None;
        schema.release.unwrap()(&mut schema);
        assert_eq!(std::ffi::CStr::from_ptr(hour.name).to_bytes(), b"hour");
        hour.release.unwrap()(addr_of_mut!(hour));
        let place = *array.children.add(3);
        let mut hours = place.read();
        (*place).release = None;
        array.release.unwrap()(&mut array);
        assert!(schema.release.is_none() && array.release.is_none());
        assert_eq!(*(*hours.buffers.add(1)).cast::<i64>().add(1), 7);
        assert_eq!(Arc::strong_count(&chunks), 2);
        hours.release.unwrap()(&mut hours);
    }
    assert_eq!(Arc::strong_count(&chunks), 1);
}
