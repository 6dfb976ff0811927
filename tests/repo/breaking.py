"""What a change of an OpenAPI document breaks for clients that hold on to the one before.

Whatever a client may send it may go on sending, and whatever it reads it may go on reading. So what
is sent may only grow wider, what is answered only narrower; but for additions, which clients are
told to read past: fields, headers, statuses, and values of an enumeration in an answer. What was
marked deprecated in the document before may be gone. A keyword that is not known here may not
change: better a false alarm than a break that nobody saw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
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
_ABOUT = ("summary", "description", "tags", "externalDocs", "deprecated")
_OF_DOCUMENT = {"info", "tags", "paths", "components", "security"}
_OF_OPERATION = {*_ABOUT, "operationId", "security", "parameters", "requestBody", "responses"}
_OF_PARAMETER = {"name", "in", "required", "schema", "example", "examples", *_ABOUT}
_REFERENCES_MAX = 16


def breaks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is broken, a sentence each; nothing where all is well."""
    comparison = _Comparison(before, after)
    return [*comparison.of_document(), *comparison.of_paths()]


@dataclass(frozen=True)
class _Comparison:
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def of_document(self) -> Iterator[str]:
        yield from self._unjudged("the document", self.before, self.after, _OF_DOCUMENT)
        was, now = (_schemes(one) for one in (self.before, self.after))
        for name, scheme in was.items():
            if now.get(name) != scheme:
                yield f"the credentials {name} are others now"

    def of_paths(self) -> Iterator[str]:
        for path, item in self.before["paths"].items():
            there = self.after["paths"].get(path)
            if there is not None:
                yield from self._unjudged(path, item, there, {*_METHODS, *_ABOUT})
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
        yield from self._unjudged(where, old, new, _OF_OPERATION)
        yield from self._security(where, old, new)
        yield from self._parameters(where, old, new)
        yield from self._request_body(where, old, new)
        for status, answer in old["responses"].items():
            there = f"{where} answer {status}"
            now = new["responses"].get(status)
            if now is None:
                yield f"{there} is gone"
                continue
            yield from self._headers(there, answer, now)
            yield from self._contents(there, answer, now, self._answered)

    def _security(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        """That nothing is asked for stands for a service without tokens; where there are some, what
        did before must still do."""
        was = old.get("security", self.before.get("security")) or [{}]
        now = new.get("security", self.after.get("security")) or [{}]
        if {} in was and {} not in now:
            yield f"{where} cannot be used without credentials any more"
        asked = [one for one in now if one] or [{}]
        for held in filter(None, was):
            if not any(_suffices(held, one) for one in asked):
                yield f"{where} no longer takes the credentials {held}"

    def _headers(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        for name, header in old.get("headers", {}).items():
            if name not in new.get("headers", {}):
                yield f"{where} has no header {name} any more"
                continue
            was, now = self._old(header), self._new(new["headers"][name])
            there = f"{where} header {name}"
            if was.get("required") and not now.get("required"):
                yield f"{there} may be missing now"
            yield from self._answered(there, was.get("schema", {}), now.get("schema", {}))

    def _parameters(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        was = {_key(self._old(one)): self._old(one) for one in old.get("parameters", [])}
        now = {_key(self._new(one)): self._new(one) for one in new.get("parameters", [])}
        for key, parameter in was.items():
            if key not in now:
                yield f"{where} has no parameter {key} any more"
            else:
                there = f"{where} parameter {key}"
                yield from self._unjudged(there, parameter, now[key], _OF_PARAMETER)
                schema = now[key].get("schema", {})
                yield from self._sent(there, parameter.get("schema", {}), schema)
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
        yield from self._unjudged(where, old, new, _KNOWN)
        if "default" in old and new.get("default") != old["default"]:
            yield f"{where} means something else where it is left out: its default is another"
        yield from self._inside(where, old, new, self._sent)
        for value in set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ()))):
            yield f"{where} no longer takes {value!r}"
        if "enum" in new and "enum" not in old:
            yield f"{where} takes only some values now"

    def _answered(self, where: str, old: Schema, new: Schema) -> Iterator[str]:
        """What a client reads: all that is answered now could have been answered before."""
        old, new = self._old(old), self._new(new)
        yield from _outside(where, "may now be outside", inner=new, outer=old)
        yield from self._unjudged(where, old, new, _KNOWN)
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
        others = [one.get("additionalProperties", {}) for one in (old, new)]
        if any(isinstance(one, Mapping) and one for one in others):
            # That there may be none at all is judged from outside.
            was, is_now = ({} if isinstance(one, bool) else one for one in others)
            if others[0] is not False and others[1] is not False:
                yield from compare(f"{where} other fields", was, is_now)

    def _unjudged(
        self, where: str, old: Schema, new: Schema, known: Collection[str]
    ) -> Iterator[str]:
        for keyword in sorted({*old, *new} - {*known}):
            was = _unfolded(old.get(keyword), self.before)
            if was != _unfolded(new.get(keyword), self.after):
                yield f"{where} has another {keyword}, which this check cannot judge"

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


def _schemes(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What credentials there are, without what is said of them."""
    found = document.get("components", {}).get("securitySchemes", {})
    return {
        name: {key: value for key, value in scheme.items() if key != "description"}
        for name, scheme in found.items()
    }


def _suffices(held: Mapping[str, list[str]], asked: Mapping[str, list[str]]) -> bool:
    return all(name in held and {*scopes} <= {*held[name]} for name, scopes in asked.items())


def _unfolded(value: Any, document: Mapping[str, Any], references: int = 0) -> Any:
    """With what it refers to in the place of the references."""
    if isinstance(value, list):
        return [_unfolded(one, document, references) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "$ref" in value:
        assert references < _REFERENCES_MAX, "it refers to itself"
        return _unfolded(_resolved(value, document), document, references + 1)
    return {key: _unfolded(one, document, references) for key, one in value.items()}


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
        # What stands beside it counts as well (OpenAPI 3.1).
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _key(parameter: Schema) -> str:
    return f"{parameter['name']} ({parameter['in']})"
