//! Flow records into sums, without a Python object in between.
//!
//! A body is read once, from its bytes into a [`Tally`]. Reading it has two outcomes: a tally, or
//! `None`, "declined". Nothing here says what is wrong with a body: the pure-Python twin (`wire/`)
//! reads a declined body again and has the last word. So two things must hold, and the differential
//! test holds them: whatever is accepted here the twin accepts with the same tally, and what the
//! twin accepts is declined only where it would be too large to be looked at closely.
//!
//! The modules, each knowing only those before it: [`rules`] what a record may hold; [`scan`] bytes
//! eight at a time; [`index`] the hash table; [`record`] one record's values; [`tally`] the sums;
//! [`strict`] the reader that owns every rule of JSON; [`layout`] the fast reader that repeats what
//! the strict one learnt; [`body`] arrays and lines; [`columns`] columns of Arrow; [`rows`] records in
//! columns; `flows` rows under numbers; [`blob`] tallies as the journal keeps them; [`merge`] many into one; [`sums`] sums as
//! JSON; [`sorted`] the rows of a store as the sums of a read; [`answer`] these as JSON.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// Sizes are computed from 32-bit numbers of bodies and blobs, and must not wrap.
#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "the kernel is for machines with 64-bit addresses; elsewhere the twin does its work"
);

pub mod answer;
pub mod blob;
pub mod body;
pub mod columns;
mod flows;
pub mod index;
pub mod layout;
pub mod merge;
mod names;
pub mod record;
pub mod rows;
pub mod rules;
pub mod scan;
pub mod sorted;
pub mod strict;
pub mod sums;
pub mod tally;

pub use body::{Decoded, decode_array, decode_lines};
pub use layout::Layouts;
pub use tally::Tally;
