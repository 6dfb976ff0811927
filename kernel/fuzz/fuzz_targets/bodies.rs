//! Bodies, read one after the other with the layouts of those before, are read as by the strict
//! reader alone. An input is a form (its first byte) and bodies with 0xff between them, which is part
//! of no valid body.

#![no_main]

use flowtally_kernel_core::Layouts;
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/strictly/mod.rs"]
mod strictly;

use strictly::{Form, read_alike};

const RECORDS_MAX: usize = 100;

fuzz_target!(|input: &[u8]| {
    let Some((first, bodies)) = input.split_first() else { return };
    let form = if first & 1 == 0 { Form::Array } else { Form::Lines };
    let mut layouts = Layouts::new();
    for body in bodies.split(|&byte| byte == 0xff) {
        read_alike(form, body, RECORDS_MAX, &mut layouts);
    }
});
