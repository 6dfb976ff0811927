"""Which formats are read and written, by the headers that name them."""

from __future__ import annotations

import pytest

from flowtally.errors import InvalidInput, NotAcceptable, UnsupportedMedia
from flowtally.wire.media import BodyFormat, SumsFormat, body_format, sums_format

ARROW = "application/vnd.apache.arrow.stream"


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (None, BodyFormat.JSON),
        ("", BodyFormat.JSON),
        ("application/json", BodyFormat.JSON),
        ("Application/JSON ; charset=UTF-8", BodyFormat.JSON),
        ('application/json;charset="utf-8"', BodyFormat.JSON),
        ("application/json; version=1", BodyFormat.JSON),
        ("application/x-ndjson", BodyFormat.NDJSON),
        (ARROW, BodyFormat.ARROW),
    ],
)
def test_content_types_that_are_read(content_type: str | None, form: BodyFormat) -> None:
    assert body_format(content_type) is form


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/csv",
        "application/jsonx",
        "application/json, application/json",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "x" * 10_000,
        ";",
    ],
)
def test_content_types_that_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia) as refused:
        body_format(content_type)
    assert len(str(refused.value)) < 300


def test_a_refused_content_type_is_told_what_is_read() -> None:
    with pytest.raises(UnsupportedMedia, match=rf"json, application/x-ndjson, {ARROW}$"):
        body_format("text/plain")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, SumsFormat.JSON),
        ("", SumsFormat.JSON),
        ("*/*", SumsFormat.JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", SumsFormat.JSON),
        ("application/json", SumsFormat.JSON),
        ("application/*", SumsFormat.JSON),
        ("text/*", SumsFormat.CSV),
        ("Text/CSV", SumsFormat.CSV),
        ("text/csv; header=present", SumsFormat.CSV),
        ("application/x-ndjson", SumsFormat.NDJSON),
        (ARROW, SumsFormat.ARROW),
        ("application/vnd.apache.parquet", SumsFormat.PARQUET),
        ("application/json;q=0.5, text/csv", SumsFormat.CSV),
        ("application/json;q=0.5, text/csv ; q=0.4", SumsFormat.JSON),
        ("*/*, application/json;q=0.1", SumsFormat.NDJSON),
        ("application/*;q=0.3, text/csv;q=0.2, application/json;q=0", SumsFormat.NDJSON),
        ("text/*;q=0.1, */*;q=0.9, application/*;q=0", SumsFormat.CSV),
        ("image/png, text/csv;q=0.001", SumsFormat.CSV),
    ],
)
def test_accept(accept: str | None, form: SumsFormat) -> None:
    assert sums_format(accept, None) is form


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "application/json;q=0",
        "*/*;q=0",
        "application/json;q=x",
        "application/json;q=1.5",
        "application/json;q=-1",
        "json",
        "x" * 10_000,
    ],
)
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="accept one of application/json, ") as refused:
        sums_format(accept, None)
    assert len(str(refused.value)) < 400


def test_a_format_in_the_query_goes_before_accept() -> None:
    for form in SumsFormat:
        assert sums_format("image/png", form.name_in_query) is form


@pytest.mark.parametrize("name", ["", "xml", "JSON", "json ", "x" * 10_000])
def test_unknown_format_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="one of json, ndjson, csv, arrow, parquet") as refused:
        sums_format(None, name)
    assert len(str(refused.value)) < 200


def test_media_types() -> None:
    assert [form.media_type for form in BodyFormat] == [
        "application/json",
        "application/x-ndjson",
        ARROW,
    ]
    assert {form.name_in_query: form.media_type for form in SumsFormat} == {
        "json": "application/json",
        "ndjson": "application/x-ndjson",
        "csv": "text/csv; charset=utf-8; header=present",
        "arrow": ARROW,
        "parquet": "application/vnd.apache.parquet",
    }
