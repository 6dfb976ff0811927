"""Bodies made and mutated from a seed: what senders send, and what a reader could be fooled by.

A body comes from one or two senders, each with a form of its own (order of keys, white space,
escapes, unknown fields), because that is what the kernel learns; most values are plain, some lie
on a bound. Then at most a few bytes of it are changed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

MEANINGFUL = b'\x00\t\n\r "\\,:{}[]-+.0189aeEu\x7f\x80\xc2\xff'
FRAGMENTS = [
    *b'" { } [ ] , : \\ - -0 0 00 . e 1e5 1.0 null true \\u0041 \\ud800 \\ud83d\\ude00 \\n'.split(),
    *b'\\u0000 \xff \xc2\x85 \xed\xa0\x80 \x7f \x01 "hour":2 ,"hour":2 ,"x":{"a":[1]}'.split(),
    *b'"src_app":"a", [[[[[[[[[[[[[[[[ ]]]]]]]]]]]]]]]] }{ },{ \\u002c 9'.split(),
    b"9" * 16,
    *(b" ", b"\n", b"\r\n", b"\t", b"\x0b", b"\xc2\xa0", b"}\n{", b"\n\n", b"", b"\xef\xbb\xbf"),
]
_PLAIN_NAMES = ["a", "foo", "eight888", "nine-9999", "é-ü", "a longer name, with more", "-" * 64]
_ODD_NAMES = [
    *(
        "",
        " ",
        "\\",
        '"',
        "/",
        "\n",
        "\x00",
        "\x1f",
        "\x7f",
        "\u0080",
        "\u009f",
        "\u00a0",
        "\u07ff",
    ),
    *("\U0010ffff", "x" * 255, "x" * 256, "x" * 257, "é" * 128, "é" * 128 + "x", "src_app", "]},{"),
    *("seven77", "sixteen-sixteen-", "7777777\x7f", "88888888\u0085", "\ufeffa", "𝄞"),
]
_ODD_INTEGERS = [
    *("-0", "-1", "00", "01", "1.0", "1e3", "1E0", '"1"', "true", "null", "+1", "0x1", "", "NaN"),
    *("2147483647", "2147483648", "9007199254740991", "9007199254740992", "9999999999999999"),
    *("10000000000000000", "18446744073709551616", "18446744073709551617", "9" * 30, "1 2", "[1]"),
]
_UNKNOWN = [
    *("0", "-0", "-1.5e3", "1E+9", "0.25", "12345678901234567890123", '""', '"text"', '"a\\"b"'),
    *('"\\ud83d\\ude00"', '"\x7f"', "true", "false", "null", "[]", "{}", '[1,"a",{"b":null}]'),
    *('{"hour":1}', '{"a":{"b":[]}}', "[" * 16 + "]" * 16, "[" * 17 + "]" * 17),
    *('"\\ud800"', "01", "1.", "nul", "[1,]", '{"a"}', '"\\x"', "-"),
]
_UNKNOWN_GOOD = 21
"""How many of these, from the first on, are valid."""
_KEYS = ["src_app", "dest_app", "vpc_id", "hour", "bytes_rx", "bytes_tx"]


def body_of(seed: str) -> tuple[str, bytes]:
    """The form ("json" or "ndjson") and the bytes of a body."""
    draw = random.Random(seed)
    form = draw.choice(("json", "ndjson"))
    odd = draw.choice((0.0, 0.0, 0.02, 0.2))
    senders = [_sender(draw, form, odd) for _ in range(draw.choice((1, 1, 1, 2, 5)))]
    records = [draw.choice(senders)() for _ in range(draw.choice((0, 1, 2, 3, 4, 8, 12)))]
    body = _framed(draw, form, records).encode("utf-8", "surrogatepass")
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
        body = _mutated(draw, body)
    return form, body


def _sender(draw: random.Random, form: str, odd: float) -> Callable[[], str]:
    """What writes records in one form, each with other values."""
    spaces = draw.choice([("", "", ""), ("", " ", ""), (" ", " ", " "), ("\t", "\r", "")])
    if form == "json" and draw.random() < 0.3:
        spaces = ("\n  ", " ", "\n")
    before, after_colon, at_end = spaces
    keys = _KEYS if draw.random() < 0.7 else draw.sample(_KEYS, len(_KEYS))
    escaped = draw.random() < 0.3
    written = {key: json.dumps(key) for key in keys}
    if draw.random() < 0.1:
        key = draw.choice(keys)
        written[key] = f'"\\u{ord(key[0]):04x}{key[1:]}"'
    unknown = draw.randrange(3) if draw.random() < 0.4 else 0
    extras = [(f'"x{n}"', draw.randrange(len(keys) + 1)) for n in range(unknown)]
    constant = draw.random() < 0.5
    fixed = [_unknown(draw, odd) for _ in extras]

    def record() -> str:
        members = [f"{written[key]}:{after_colon}{_value(draw, key, escaped, odd)}" for key in keys]
        for number, (name, place) in enumerate(extras):
            value = fixed[number] if constant else _unknown(draw, odd)
            members.insert(place, f"{name}:{after_colon}{value}")
        if draw.random() < odd / 4:
            members.append(draw.choice(members))
        if draw.random() < odd / 4:
            members.pop(draw.randrange(len(members)))
        return f"{{{before}{f',{before}'.join(members)}{at_end}}}"

    return record


def _value(draw: random.Random, key: str, escaped: bool, odd: float) -> str:
    is_odd = draw.random() < odd
    if key in ("hour", "bytes_rx", "bytes_tx"):
        if is_odd:
            return draw.choice(_ODD_INTEGERS)
        most = 3 if key == "hour" else 10 ** draw.randrange(16)
        return str(draw.randrange(most))
    name = draw.choice(_ODD_NAMES if is_odd else _PLAIN_NAMES)
    return json.dumps(name, ensure_ascii=escaped)


def _unknown(draw: random.Random, odd: float) -> str:
    return draw.choice(_UNKNOWN if draw.random() < odd else _UNKNOWN[:_UNKNOWN_GOOD])


def _framed(draw: random.Random, form: str, records: list[str]) -> str:
    if form == "ndjson":
        end = draw.choice(("\n", "\n", "\n", "\r\n", " \n"))
        return end.join(records) + draw.choice(("", end if records else ""))
    between = draw.choice((",", ",", ",", ", ", ",\n", " , "))
    start, end = draw.choice((("[", "]"), ("[", "]"), ("[\n", "\n]\n"), (" [ ", " ] ")))
    return start + between.join(records) + end


def _mutated(draw: random.Random, body: bytes) -> bytes:
    at = draw.randrange(len(body) + 1)
    kind = draw.randrange(6)
    if kind == 0:
        return body[:at] + bytes([draw.choice(MEANINGFUL)]) + body[at + 1 :]
    if kind == 1:
        return body[:at] + draw.choice(FRAGMENTS) + body[at + draw.randrange(4) :]
    if kind == 2:
        return body[:at] + body[at + draw.choice((1, 1, 2, 8, 40)) :]
    if kind == 3:
        end = at + draw.choice((1, 2, 8, 40, 100))
        return body[:end] + body[at:end] + body[end:]
    if kind == 4 and body:
        at = min(at, len(body) - 1)
        return body[:at] + bytes([body[at] ^ 1 << draw.randrange(8)]) + body[at + 1 :]
    return body[:at] if draw.random() < 0.2 else body + draw.choice(FRAGMENTS)
