//! Bodies of the corpus joined, mutated, and read with the layouts of those before: the fast reader
//! says what the strict one says. `FLOWTALLY_MUTATIONS` and `FLOWTALLY_SEED` make a run long.

mod strictly;

use std::fs;
use std::path::Path;

use flowtally_kernel_core::Layouts;

use strictly::{Form, read_alike};

/// Numbers that look random (xorshift64*): no other crate is needed for that.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

const MEANINGFUL: &[u8] = b"\x00\t\n\r \"\\,:{}[]-+.0189aeEu\x7f\x80\xc2\xff";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The bodies of one form and one verdict.
fn corpus(form: Form, verdict: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/kernel/corpus");
    let suffix = if form == Form::Array { "json" } else { "ndjson" };
    let mut bodies = Vec::new();
    for entry in fs::read_dir(root.join(verdict)).expect("the corpus") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|found| found == suffix) {
            bodies.push(fs::read(path).expect("a body"));
        }
    }
    bodies.sort();
    bodies
}

/// The bodies of a form: those to be accepted, and those to be refused.
type Bodies = [Vec<Vec<u8>>; 2];

fn one<'b>(bodies: &'b Bodies, draw: &mut Draw) -> &'b [u8] {
    let some = &bodies[usize::from(draw.below(8) == 0)];
    &some[draw.below(some.len())]
}

/// Up to three bodies as one: of arrays the brackets between them go.
fn joined(form: Form, bodies: &Bodies, draw: &mut Draw) -> Vec<u8> {
    let mut whole = one(bodies, draw).to_vec();
    for _ in 0..draw.below(3) {
        let next = one(bodies, draw);
        let (between, next) = match form {
            Form::Array => (b',', next.get(1..).unwrap_or_default()),
            Form::Lines => (b'\n', next),
        };
        if form == Form::Array || whole.ends_with(b"\n") {
            whole.pop();
        }
        whole.push(between);
        whole.extend_from_slice(next);
    }
    whole
}

fn mutate(body: &mut Vec<u8>, draw: &mut Draw) {
    let at = draw.below(body.len() + 1);
    let byte = MEANINGFUL[draw.below(MEANINGFUL.len())];
    let end = (at + 1 + draw.below(40)).min(body.len());
    match draw.below(6) {
        0 => body.insert(at, byte),
        1 => body.truncate(at),
        2 => drop(body.drain(at..end)),
        3 => body.splice(at..at, body[at..end].to_vec()).for_each(drop),
        _ if at == body.len() => body.push(byte),
        4 => body[at] = byte,
        _ => body[at] ^= 1 << draw.below(8),
    }
}

#[test]
fn mutated_bodies_are_read_as_the_strict_reader_reads_them() {
    let mut draw = Draw(setting("FLOWTALLY_SEED", 7) | 1 << 63);
    let count = setting("FLOWTALLY_MUTATIONS", if cfg!(miri) { 40 } else { 20_000 });
    let forms = [Form::Array, Form::Lines]
        .map(|form| (form, [corpus(form, "accepted"), corpus(form, "refused")]));
    let mut layouts = [Layouts::new(), Layouts::new()];
    let mut accepted = 0;
    for _ in 0..count {
        let number = draw.below(2);
        let (form, bodies) = &forms[number];
        let mut body = joined(*form, bodies, &mut draw);
        for _ in 0..draw.below(3) {
            mutate(&mut body, &mut draw);
        }
        accepted += usize::from(read_alike(*form, &body, 1_000, &mut layouts[number]));
    }
    println!("{count} bodies, {accepted} accepted");
    assert!(accepted > 0);
}

#[test]
fn the_corpus_is_read_as_the_strict_reader_reads_it() {
    for form in [Form::Array, Form::Lines] {
        let mut layouts = Layouts::new();
        for verdict in ["accepted", "refused"] {
            for body in corpus(form, verdict) {
                let accepted = read_alike(form, &body, 1_000, &mut layouts);
                assert_eq!(accepted, verdict == "accepted");
                assert_eq!(accepted, read_alike(form, &body, 1_000, &mut Layouts::new()));
                read_alike(form, &body, 1, &mut layouts);
            }
        }
    }
}
