"""What a change of an OpenAPI document breaks for clients that hold on to the one before.

Whatever a client may send it may go on sending, and whatever it reads it may go on reading. So what
is sent may only grow wider, what is answered only narrower; but for additions, which clients are
told to read past: fields, headers, statuses, and values of an enumeration in an answer. What was
marked deprecated in the document before may be gone. A keyword that is not known here may not
change: better a false alarm than a break that nobody saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "const", "uniqueItems", "multipleOf", "contentEncoding")
_WORDS = ("title", "description", "summary", "example", "examples", "default", "deprecated", "$ref")
_COMPARED = ("type", "enum", "required", "properties", "items", "propertyNames")
_KNOWN = {*_LOWER, *_UPPER, *_SAME, *_WORDS, *_COMPARED, "additionalProperties"}


def breaks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is broken, a sentence each; nothing where all is well."""
    return list(_Comparison(before, after).of_paths())


@dataclass(frozen=True)
class _Comparison:
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def of_paths(self) -> Iterator[str]:
        for path, item in self.before["paths"].items():
            for method in _METHODS:
                if method not in item:
                    continue
                where = f"{method.upper()} {path}"
                now = self.after["paths"].get(path, {}).get(method)
                if now is not None:
                    yield from self._operation(where, item[method], now)
                elif not item[method].get("deprecated"):
                    yield f"{where} is gone"

    def _operation(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        if old.get("operationId") != new.get("operationId"):
            yield f"{where} has another operationId: generated clients name their functions by it"
        secured, was = new.get("security", []), old.get("security", [])
        if secured and {} not in secured and (not was or {} in was):
            yield f"{where} cannot be used without credentials any more"
        yield from self._parameters(where, old, new)
        yield from self._request_body(where, old, new)
        for status, answer in old["responses"].items():
            there = f"{where} answer {status}"
            now = new["responses"].get(status)
            if now is None:
                yield f"{there} is gone"
                continue
            for header in answer.get("headers", {}):
                if header not in now.get("headers", {}):
                    yield f"{there} has no header {header} any more"
            yield from self._contents(there, answer, now, self._answered)

    def _parameters(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        was = {_key(self._old(one)): self._old(one) for one in old.get("parameters", [])}
        now = {_key(self._new(one)): self._new(one) for one in new.get("parameters", [])}
        for key, parameter in was.items():
            if key not in now:
                yield f"{where} has no parameter {key} any more"
            else:
                there = f"{where} parameter {key}"
                yield from self._sent(there, parameter.get("schema", {}), now[key]["schema"])
        for key, parameter in now.items():
            if parameter.get("required") and not was.get(key, {}).get("required"):
                yield f"{where} demands the parameter {key}"

    def _request_body(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        was, now = old.get("requestBody"), new.get("requestBody")
        if was is not None and now is None:
            yield f"{where} takes no body any more"
        if now is not None and now.get("required") and not (was or {}).get("required"):
            yield f"{where} demands a body"
        if was is not None and now is not None:
            yield from self._contents(f"{where} body", was, now, self._sent)

    def _contents(
        self,
        where: str,
        old: Schema,
        new: Schema,
        compare: Callable[[str, Schema, Schema], Iterator[str]],
    ) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            now = new.get("content", {}).get(media_type)
            if now is None:
                yield f"{where} is no {media_type} any more"
            else:
                there = f"{where} {media_type}"
                yield from compare(there, content.get("schema", {}), now.get("schema", {}))

    def _sent(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        """What a client sends: all that was taken is taken still."""
        old, new = self._old(old), self._new(new)
        yield from _outside(where, "no longer takes", inner=old, outer=new)
        yield from _unknown(where, old, new)
        yield from self._inside(where, old, new, self._sent)
        for value in set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ()))):
            yield f"{where} no longer takes {value!r}"
        if "enum" in new and "enum" not in old:
            yield f"{where} takes only some values now"

    def _answered(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        """What a client reads: all that is answered now could have been answered before."""
        old, new = self._old(old), self._new(new)
        yield from _outside(where, "may now be outside", inner=new, outer=old)
        yield from _unknown(where, old, new)
        yield from self._inside(where, old, new, self._answered)
        if "enum" in old and "enum" not in new:
            yield f"{where} may be any value now"
        for value in set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ()))):
            yield f"{where} is never {value!r} any more"

    def _inside(
        self,
        where: str,
        old: Schema,
        new: Schema,
        compare: Callable[[str, Schema, Schema], Iterator[str]],
    ) -> Iterator[str]:
        now = new.get("properties", {})
        for name, schema in old.get("properties", {}).items():
            if name in now:
                yield from compare(f"{where} field {name}", schema, now[name])
            else:
                yield f"{where} has no field {name} any more"
        if "items" in old or "items" in new:
            yield from compare(f"{where} items", old.get("items", {}), new.get("items", {}))

    def _old(self, schema: Schema) -> Schema:
        return _resolved(schema, self.before)

    def _new(self, schema: Schema) -> Schema:
        return _resolved(schema, self.after)


def _outside(where: str, words: str, inner: Schema, outer: Schema) -> Iterator[str]:
    """Where a schema allows what another does not, looking at nothing inside of it."""
    types, wider = _types(inner), _types(outer)
    if wider is not None and (types is None or not types <= wider):
        yield f"{where} {words} its type: {sorted(types or {'any'})} and {sorted(wider)}"
    for keyword in _LOWER:
        if keyword in outer and inner.get(keyword, float("-inf")) < outer[keyword]:
            yield f"{where} {words} its {keyword}: {inner.get(keyword)} and {outer[keyword]}"
    for keyword in _UPPER:
        if keyword in outer and inner.get(keyword, float("inf")) > outer[keyword]:
            yield f"{where} {words} its {keyword}: {inner.get(keyword)} and {outer[keyword]}"
    for keyword in _SAME:
        if keyword in outer and inner.get(keyword) != outer[keyword]:
            yield f"{where} {words} its {keyword}: {inner.get(keyword)} and {outer[keyword]}"
    for name in sorted(set(outer.get("required", ())) - set(inner.get("required", ()))):
        yield f"{where} {words} what it must have: field {name}"
    names = set(outer.get("propertyNames", {}).get("enum", ()))
    if names and not names.issuperset(inner.get("propertyNames", {}).get("enum", ("any",))):
        yield f"{where} {words} its propertyNames"
    if outer.get("additionalProperties", True) is False is not inner.get("additionalProperties"):
        yield f"{where} {words} its fields: no others were to be there"


def _unknown(where: str, old: Schema, new: Schema) -> Iterator[str]:
    for keyword in sorted({*old, *new} - _KNOWN):
        if old.get(keyword) != new.get(keyword):
            yield f"{where} has another {keyword}, which this check cannot judge"


def _types(schema: Schema) -> frozenset[str] | None:
    found = schema.get("type")
    if found is None:
        return None
    types = {found} if isinstance(found, str) else set(found)
    return frozenset(types | ({"integer"} if "number" in types else set()))


def _resolved(schema: Schema, document: Mapping[str, Any]) -> Schema:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _key(parameter: Schema) -> str:
    return f"{parameter['name']} ({parameter['in']})"
