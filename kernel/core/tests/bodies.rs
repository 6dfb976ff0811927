//! Every rule of a body, valid beside invalid: each record alone and among others, read by the strict
//! reader that has seen nothing, and with the layouts that an earlier reading taught.

use flowtally_kernel_core::{Decoded, Layouts, decode_array, decode_lines};

const PLAIN: &str =
    r#"{"src_app":"foo","dest_app":"bar","vpc_id":"vpc-0","hour":1,"bytes_rx":300,"bytes_tx":100}"#;

fn with(field: &str, value: &str) -> String {
    let key = format!("\"{field}\":");
    let start = PLAIN.find(&key).expect("a field of the record") + key.len();
    let end = start + PLAIN[start..].find([',', '}']).expect("something after it");
    format!("{}{value}{}", &PLAIN[..start], &PLAIN[end..])
}

fn unknown(value: &str) -> String {
    PLAIN.replace('}', &format!(",\"new\":{value}}}"))
}

fn array(body: &str) -> Option<Decoded> {
    decode_array(body.as_bytes(), 1_000, &mut Layouts::new())
}

fn lines(body: &str) -> Option<Decoded> {
    decode_lines(body.as_bytes(), 1_000, &mut Layouts::new())
}

/// Whether a record is accepted, in each of the ways to read it.
fn accepted(record: &str) -> Vec<bool> {
    let arrays = [
        format!("[{record}]"),
        format!("[{PLAIN},{record},{PLAIN}]"),
        format!("[{record} , {PLAIN},{record}]"),
        format!("[{},{},{record}]", unknown("1"), unknown("\"x\"")),
    ];
    let lines = [record.to_string(), format!("{PLAIN}\n{record}\r\n{PLAIN}\n")];
    let mut found = Vec::new();
    for body in arrays {
        let mut layouts = Layouts::new();
        // The second time with what the first one taught.
        for _ in 0..2 {
            found.push(decode_array(body.as_bytes(), 1_000, &mut layouts).is_some());
        }
    }
    for body in lines {
        let mut layouts = Layouts::new();
        for _ in 0..2 {
            found.push(decode_lines(body.as_bytes(), 1_000, &mut layouts).is_some());
        }
    }
    found
}

#[test]
fn valid_records() {
    let long = "x".repeat(256);
    let wide = "é".repeat(128);
    let deep = format!("{}{}", "[".repeat(16), "]".repeat(16));
    let huge = "9".repeat(5_000);
    let cases = [
        PLAIN.to_string(),
        with("hour", "0"),
        with("hour", "2147483647"),
        with("bytes_rx", "0"),
        with("bytes_rx", "9007199254740991"),
        with("bytes_tx", "12345678"),
        with("src_app", &format!("\"{long}\"")),
        with("src_app", &format!("\"{wide}\"")),
        with("src_app", "\" a \""),
        with("src_app", r#""a\"b\\c\/d""#),
        with("src_app", r#""\ud83d\ude00""#),
        with("src_app", r#""\uD83D\uDE00 \u00e9""#),
        with("src_app", "\"\u{a0}\""),
        with("dest_app", "\"<img onerror>\""),
        with("dest_app", "\"src_app\""),
        with("dest_app", r#""\"hour\":2""#),
        PLAIN.replace(':', " :\r ").replace(",\"", " ,\t\""),
        PLAIN.replace("src_app", r"\u0073rc_app"),
        unknown("1"),
        unknown("-0"),
        unknown("1e999"),
        unknown("-1.5E-3"),
        unknown(&huge),
        unknown(r#"{"src_app":1,"x":[null,true,false,1.5e-3,{ }, [ ]]}"#),
        unknown(&deep),
        unknown(r#""\u0000 \ud83d\ude00 \\ud800""#),
        unknown("1,\"new\":2"),
        unknown("\"\u{7f}\""),
        unknown("\"a longer text, of an unknown field, é\""),
        unknown(
            "\"x\",\"one\":1,\"two\":2,\"three\":3,\"four\":4,\"five\":5,\"six\":6,\"seven\":7",
        ),
    ];
    for case in cases {
        assert!(accepted(&case).iter().all(|&yes| yes), "{case}: {:?}", accepted(&case));
    }
}

#[test]
fn invalid_records() {
    let long = "x".repeat(257);
    let wide = "é".repeat(129);
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    let deep_objects = format!("{}0{}", "{\"a\":".repeat(17), "}".repeat(17));
    let digits = "9".repeat(100_000);
    let mut cases = Vec::new();
    for value in [
        "1.0",
        "1e3",
        "1E3",
        "1e999",
        "\"1\"",
        "true",
        "null",
        "[]",
        "{}",
        "-1",
        "-0",
        " -0",
        "\t-0",
        "01",
        "00",
        "+1",
        "NaN",
        "Infinity",
        "0x1",
        "1_0",
        "",
        "1 2",
        "9007199254740992",
        &digits,
        "18446744073709551617",
        "0000000000000001",
        ".5",
        "1.",
        "٣",
    ] {
        cases.push(with("bytes_rx", value));
    }
    for value in ["2147483648", "-1", "1.5", "4294967296", "4294967297"] {
        cases.push(with("hour", value));
    }
    for value in [
        "",
        "7",
        "null",
        "{}",
        "[]",
        "a",
        "\"a",
        "a\"",
        "\"\"",
        "\"a\\u0000\"",
        "\"a\\n\"",
        "\"a\n\"",
        "\"a\t\"",
        "\"\u{7f}\"",
        "\"\u{85}\"",
        "\"\\u0085\"",
        "\"\\u007f\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\"",
        "\"\\ud800x\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u00g0\"",
        "\"\\u+041\"",
        "'a'",
        &format!("\"{long}\""),
        &format!("\"{wide}\""),
    ] {
        cases.push(with("src_app", value));
    }
    for value in [
        "01",
        "1.",
        "-",
        ".5",
        "1e",
        "1e+",
        "tru",
        "truex",
        "nul",
        "NaN",
        "-Infinity",
        "--1",
        "1.5.5",
        "\"\\x\"",
        "\"\\ud800\"",
        "[\"\\udc00\"]",
        "\"\t\"",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "[1 2]",
        "[",
        "]",
        "{",
        "",
        "\"a\"\"b\"",
        &deep,
        &deep_objects,
    ] {
        cases.push(unknown(value));
    }
    cases.extend([
        PLAIN.replace("\"hour\":1,", ""),
        PLAIN.replace("\"hour\":1", "\"hour\":1,\"hour\":1"),
        PLAIN.replace("\"hour\":1", r#""hour":1,"\u0068our":1"#),
        PLAIN.replace("\"src_app\":\"foo\",", "\"src_app\":\"foo\",\"src_app\":\"foo\","),
        PLAIN.replace('}', ",}"),
        PLAIN.replace('{', "{,"),
        PLAIN.replace(',', ",,"),
        PLAIN.replace(':', "="),
        PLAIN.replace(',', " "),
        PLAIN.replace('}', ""),
        PLAIN.replace('"', "'"),
        PLAIN.replace("src_app", "src_app\\ud800"),
        ["{}", "1", "null", "[]", "\"x\"", ""].join(""),
    ]);
    cases.extend(["{}", "1", "null", "[]", "\"x\"", "true", ","].map(String::from));
    for case in cases {
        assert!(!accepted(&case).contains(&true), "{case}: {:?}", accepted(&case));
    }
}

#[test]
fn arrays() {
    for (body, records) in [
        ("[]".to_string(), 0),
        (" [ ] ".to_string(), 0),
        (format!("\r\n[\t{PLAIN}\n,\n {PLAIN}]\n"), 2),
        (format!("[{}]", PLAIN.replace(',', ",\n  ")), 1),
    ] {
        assert_eq!(array(&body).map(|decoded| decoded.records), Some(records), "{body}");
    }
    for body in [
        "",
        " ",
        "[",
        "]",
        "[]x",
        "[][]",
        "[]\0",
        "{}",
        "7",
        "null",
        "[,]",
        "\u{feff}[]",
        PLAIN,
        &format!("[{PLAIN}"),
        &format!("[{PLAIN},]"),
        &format!("[{PLAIN}{PLAIN}]"),
        &format!("[{PLAIN}]]"),
        &format!("[{PLAIN}],"),
        &format!("[,{PLAIN}]"),
        &format!("[[{PLAIN}]]"),
        &format!("[{PLAIN}\u{b},{PLAIN}]"),
    ] {
        assert!(array(body).is_none(), "{body}");
    }
    assert!(array(&"[".repeat(100_000)).is_none());
    assert!(array(&format!("[{}]", unknown(&"[".repeat(100_000)))).is_none());
}

#[test]
fn bytes_that_are_no_text() {
    let outside = |bytes: &[u8]| [b"[", bytes, b"]"].concat();
    let within = |bytes: &[u8]| [&PLAIN.as_bytes()[..12], bytes, &PLAIN.as_bytes()[12..]].concat();
    for bytes in [&b"\xff"[..], b"\xed\xa0\x80", b"\xc0\x80", b"\xc3", b"\xf5\x80\x80\x80"] {
        let mut layouts = Layouts::new();
        assert!(decode_array(&outside(bytes), 10, &mut layouts).is_none());
        assert!(decode_lines(&within(bytes), 10, &mut layouts).is_none());
        let twice = [b"[", PLAIN.as_bytes(), b",", &within(bytes), b"]"].concat();
        assert!(decode_array(&twice, 10, &mut layouts).is_none());
    }
}

#[test]
fn line_by_line() {
    for (body, records) in [
        (String::new(), 0),
        (PLAIN.to_string(), 1),
        (format!("{PLAIN}\r\n{PLAIN}\r\n{PLAIN}\r\n"), 3),
        (format!(" {PLAIN}\t\n {PLAIN} \n"), 2),
        (format!("{PLAIN}\n{PLAIN}\r\n{PLAIN}"), 3),
        (format!("{PLAIN}\r"), 1),
    ] {
        assert_eq!(lines(&body).map(|decoded| decoded.records), Some(records), "{body}");
    }
    let over_two = PLAIN.replacen(',', ",\n", 1);
    for body in [
        "\n",
        " ",
        "\r",
        &format!("{PLAIN}\n\n"),
        &format!("{PLAIN}\n \n{PLAIN}"),
        &format!("[{PLAIN}]"),
        &format!("{PLAIN}{PLAIN}"),
        &over_two,
        &format!("{over_two}{PLAIN}"),
        &format!("{PLAIN},\n{PLAIN}"),
        &format!("\u{feff}{PLAIN}"),
        &format!("{PLAIN}\n\r"),
        &format!("\n{PLAIN}"),
        "[]",
        &unknown("[1,\n2]"),
    ] {
        assert!(lines(body).is_none(), "{body}");
    }
}

#[test]
fn a_layout_with_newlines_serves_no_lines() {
    let spread = PLAIN.replace(',', ",\n");
    let mut of_arrays = Layouts::new();
    assert!(decode_array(format!("[{spread}]").as_bytes(), 10, &mut of_arrays).is_some());
    let mut of_lines = Layouts::new();
    for _ in 0..2 {
        assert!(decode_lines(spread.as_bytes(), 10, &mut of_lines).is_none());
    }
}

#[test]
fn records_are_counted() {
    let body = format!("[{PLAIN},{PLAIN},{PLAIN}]");
    let body_lines = format!("{PLAIN}\n{PLAIN}\n{PLAIN}");
    for (records_max, fits) in [(2, false), (3, true), (4, true)] {
        let mut layouts = Layouts::new();
        assert_eq!(decode_array(body.as_bytes(), records_max, &mut layouts).is_some(), fits);
        let mut layouts = Layouts::new();
        assert_eq!(decode_lines(body_lines.as_bytes(), records_max, &mut layouts).is_some(), fits);
    }
    assert!(decode_array(b"[]", 1, &mut Layouts::new()).is_some());
}

#[test]
fn unknown_fields_may_not_hold_without_bound() {
    let body = format!("[{}]", unknown(&format!("[{}0]", "0,".repeat(1_000))));
    assert!(decode_array(body.as_bytes(), 100, &mut Layouts::new()).is_some());
    assert!(decode_array(body.as_bytes(), 50, &mut Layouts::new()).is_none());
}

#[test]
fn sums() {
    let other =
        PLAIN.replace("foo", r"\u0066oo").replace("\"hour\":1,", "").replace('}', ",\"hour\":1}");
    let more = with("bytes_rx", "9007199254740991");
    let body = format!("[{PLAIN},{other},{},{more}]", with("hour", "2"));
    let Decoded { tally, records } = array(&body).unwrap();
    assert_eq!(records, 4);
    let rows: Vec<_> = tally
        .rows()
        .iter()
        .map(|row| (row.hour, row.bytes_rx, row.bytes_tx, row.records))
        .collect();
    assert_eq!(rows, [(1, 9007199254741591, 300, 3), (2, 300, 100, 1)]);
    for row in tally.rows() {
        assert_eq!(tally.names(row), [&b"foo"[..], b"bar", b"vpc-0"]);
    }
}

#[test]
fn ever_new_orders_and_constants() {
    let pairs: Vec<&str> = PLAIN.trim_matches(['{', '}']).split(',').collect();
    let mut body = String::from("[");
    for number in 0..200 {
        let mut turned = pairs.clone();
        turned.rotate_left(number % 6);
        turned.swap(number % 5, 5);
        body += &format!("{{{},\"n\":{number}}},", turned.join(","));
    }
    body.pop();
    body.push(']');
    let mut layouts = Layouts::new();
    for _ in 0..2 {
        let decoded = decode_array(body.as_bytes(), 1_000, &mut layouts).unwrap();
        assert_eq!((decoded.records, decoded.tally.rows().len()), (200, 1));
    }
}
