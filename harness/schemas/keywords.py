"""Schemas for each keyword of JSON Schema 2020-12, in the shapes of the JSON-Schema-Test-Suite's files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any] | bool

_INTEGER, _STRING, _BOOLEAN = {"type": "integer"}, {"type": "string", "maxLength": 6}, {"type": "boolean"}
_PAIR = {
    "type": "object",
    "properties": {"a": _BOOLEAN, "b": _INTEGER},
    "required": ["a"],
    "additionalProperties": False,
}
_TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "leaf": _BOOLEAN,
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["leaf"],
            "additionalProperties": False,
        }
    },
}

BY_KEYWORD: Mapping[str, Sequence[Schema]] = {
    "additionalProperties": (
        {"type": "object", "properties": {"a": _BOOLEAN}, "additionalProperties": False},
        {"type": "object", "properties": {"a": _BOOLEAN}, "additionalProperties": {"type": "null"}},
        {"type": "object", "additionalProperties": _BOOLEAN},
        {
            "type": "object",
            "properties": {"a": _BOOLEAN},
            "patternProperties": {"^v": _INTEGER},
            "additionalProperties": False,
        },
        {"additionalProperties": False},
    ),
    "allOf": (
        {"allOf": [{"type": "object", "properties": {"a": _BOOLEAN}, "required": ["a"]}, {"required": ["b"]}]},
        {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 30}]},
        {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]},
        {"allOf": [True, {"type": "boolean"}]},
        {"allOf": [True, False]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"allOf": [{"allOf": [{"type": "null"}]}]},
    ),
    "anyOf": (
        {"anyOf": [_INTEGER, {"type": "null"}]},
        {"anyOf": [{"const": "a"}, {"const": "b"}, {"type": "boolean"}]},
        {"anyOf": [_PAIR, {"type": "array", "items": _BOOLEAN, "maxItems": 2}]},
        {"type": "integer", "anyOf": [{"minimum": 100, "maximum": 110}, {"enum": [5]}]},
        {"anyOf": [{"type": "null"}, False]},
        {"anyOf": [False, False]},
    ),
    "boolean": (True, False),
    "const": (
        {"const": 2},
        {"const": 'né\n"ja"'},
        {"const": {"foo": "bar", "baz": [1, None]}},
        {"const": [{"foo": "bar"}]},
        {"const": None},
        {"const": False},
        {"const": -2.0},
        {"const": ""},
    ),
    "contains": (
        {"type": "array", "contains": {"const": 5}},
        {"type": "array", "items": _INTEGER, "contains": {"minimum": 5}, "minContains": 2},
        {"contains": False},
    ),
    "default": ({"type": "object", "properties": {"a": {"type": "boolean", "default": "not one"}}, "required": ["a"]},),
    "dependentRequired": (
        {"type": "object", "properties": {"a": _BOOLEAN, "b": _BOOLEAN}, "dependentRequired": {"a": ["b"]}},
    ),
    "dependentSchemas": ({"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}},),
    "enum": (
        {"enum": [1, 2, 3]},
        {"enum": ["red", "green", None, True, 1.5, {"a": []}]},
        {"enum": ["a", "ab", "abc", "b"]},
        {"type": "string", "enum": ["one", 2]},
        {"enum": ["\u0000", "\U0001f642", "tab\t"]},
        {"type": "integer", "enum": ["a"]},
        {"enum": [[], {}, ""]},
    ),
    "format": tuple(
        {"type": "string", "format": name}
        for name in (
            "date",
            "time",
            "uuid",
            "ipv4",
            "date-time",
            "email",
            "hostname",
            "ipv6",
            "uri",
            "duration",
            "nope",
        )
    ),
    "if": (
        {"if": {"properties": {"a": {"const": True}}}, "then": {"required": ["b"]}, "else": {"required": ["c"]}},
        {"type": "integer", "if": {"minimum": 5}, "then": {"maximum": 9}},
    ),
    "items": (
        {"type": "array", "items": _BOOLEAN, "maxItems": 4},
        {"type": "array", "items": False},
        {
            "type": "array",
            "items": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 2, "maxItems": 2},
            "maxItems": 2,
        },
        {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False},
        {"type": "array", "prefixItems": [_BOOLEAN], "items": {"type": "null"}, "maxItems": 3},
        {"items": _BOOLEAN},
    ),
    "maxItems": (
        {"type": "array", "items": _BOOLEAN, "maxItems": 0},
        {"type": "array", "items": _BOOLEAN, "minItems": 2, "maxItems": 3},
        {"type": "array", "items": _BOOLEAN, "minItems": 3, "maxItems": 2},
        {"maxItems": 2},
    ),
    "maxLength": (
        {"type": "string", "maxLength": 0},
        {"type": "string", "minLength": 2, "maxLength": 4},
        {"type": "string", "minLength": 4, "maxLength": 2},
        {"type": "string", "maxLength": 12},
    ),
    "maxProperties": (
        {"type": "object", "maxProperties": 1},
        {"type": "object", "minProperties": 1, "additionalProperties": _BOOLEAN},
        {"type": "object", "properties": {"a": _BOOLEAN, "b": _BOOLEAN}, "maxProperties": 0},
    ),
    "maximum": (
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"type": "integer", "minimum": -3, "maximum": 120},
        {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 11},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": -0.5, "exclusiveMaximum": 0.25},
        {"type": "number", "minimum": 300.5, "maximum": 300.75},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "minimum": 10**30, "maximum": 10**30 + 5},
        {"minimum": 3},
    ),
    "multipleOf": (
        {"type": "integer", "multipleOf": 2, "minimum": 0, "maximum": 20},
        {"type": "integer", "multipleOf": 7},
        {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 2},
        {"type": "integer", "multipleOf": 0},
    ),
    "not": ({"not": {"type": "integer"}}, {"type": "object", "properties": {"a": {"not": {}}}}, {"not": True}),
    "oneOf": (
        {"oneOf": [_INTEGER, _BOOLEAN]},
        {"oneOf": [{"const": 1}, {"const": 2}]},
        {"oneOf": [_INTEGER, {"type": "integer", "minimum": 2}]},
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"k": {"const": "x"}, "v": _BOOLEAN},
                    "required": ["k", "v"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"k": {"const": "y"}},
                    "required": ["k"],
                    "additionalProperties": False,
                },
            ]
        },
    ),
    "pattern": (
        {"type": "string", "pattern": "^a*$", "maxLength": 5},
        {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
        {"type": "string", "pattern": "^(yes|no)$"},
        {"type": "string", "pattern": "b"},
        {"type": "string", "pattern": "^(?=a)a$"},
        {"type": "string", "pattern": "^(a)\\1$"},
        {"type": "string", "pattern": "^\\p{Lu}$"},
        {"type": "string", "pattern": "("},
        {"pattern": "^a$"},
    ),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^f.{0,3}$": _BOOLEAN}, "additionalProperties": False},
        {"type": "object", "patternProperties": {"a+": True, "b+": False}},
    ),
    "prefixItems": (
        {"type": "array", "prefixItems": [_INTEGER, {"enum": ["a", "b"]}], "minItems": 2, "maxItems": 2},
        {"type": "array", "prefixItems": [True, False]},
    ),
    "properties": (
        _PAIR,
        {"type": "object", "properties": {"a": True, "b": False}, "additionalProperties": False},
        {
            "type": "object",
            "properties": {'q"uote': _BOOLEAN, "new\nline": _BOOLEAN, "ü": _BOOLEAN},
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"__proto__": _BOOLEAN, "constructor": _BOOLEAN},
            "additionalProperties": False,
        },
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"properties": {"a": _BOOLEAN}},
    ),
    "propertyNames": ({"type": "object", "propertyNames": {"maxLength": 3}}, {"propertyNames": False}),
    "$ref": (
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/b"}},
            "required": ["a"],
            "additionalProperties": False,
            "$defs": {"b": _BOOLEAN},
        },
        _TREE,
        {"$ref": "#/definitions/c", "definitions": {"c": {"enum": [1, 2]}}},
        {"$defs": {"tilde~x/y": _BOOLEAN}, "$ref": "#/$defs/tilde~0x~1y"},
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/a", "maximum": 3, "$defs": {"a": {"type": "integer", "minimum": 1}}},
        {"$dynamicRef": "#node", "$defs": {"x": {"$dynamicAnchor": "node", "type": "null"}}},
        {"$ref": "#here", "$defs": {"x": {"$anchor": "here", "type": "boolean"}}},
    ),
    "required": (
        {"type": "object", "required": ["a"]},
        {
            "type": "object",
            "properties": {"a": _BOOLEAN, "b": _BOOLEAN},
            "required": ["b"],
            "additionalProperties": False,
        },
        {"type": "object", "properties": {"a": _BOOLEAN}, "required": ["z"], "additionalProperties": False},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"required": ["a"]},
    ),
    "type": (
        *({"type": name} for name in ("integer", "number", "boolean", "null", "string", "array", "object", "foo")),
        {"type": ["integer", "null"]},
        {"type": ["boolean", "null", "integer"]},
        {"type": []},
        {},
    ),
    "unevaluatedProperties": (
        {"type": "object", "properties": {"a": _BOOLEAN}, "unevaluatedProperties": False},
        {"type": "array", "prefixItems": [_BOOLEAN], "unevaluatedItems": False},
    ),
    "uniqueItems": (
        {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True},
        {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": False, "maxItems": 2},
    ),
    "annotations": (
        {
            "title": "A thing",
            "description": "one of two",
            "examples": [1],
            "deprecated": True,
            "readOnly": True,
            "enum": [1, 2],
        },
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/x", "type": "boolean"},
        {"$comment": "why", "type": "null"},
        {"type": "string", "contentMediaType": "application/json", "maxLength": 4},
        {"x-vendor": 3, "type": "boolean"},
    ),
}
"""Schemas by the keyword they are about; some cannot be enforced, some fit nothing, some are no schemas."""


def schemas() -> list[Schema]:
    """Return all of them, and each of the enforceable ones inside an object and inside an array."""
    alone = [schema for kind in BY_KEYWORD.values() for schema in kind]
    short = [schemas[0] for schemas in BY_KEYWORD.values()]
    inside: list[Schema] = [
        {
            "type": "object",
            "properties": {"it": schema, "n": _STRING},
            "required": ["it"],
            "additionalProperties": False,
        }
        for schema in short
    ]
    listed: list[Schema] = [{"type": "array", "items": schema, "minItems": 1, "maxItems": 2} for schema in short]
    return [*alone, *inside, *listed]


def words_of(schema: object) -> Iterator[str]:
    """Yield every word of a schema, keywords and values alike."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            yield key
            yield from words_of(value)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from words_of(part)
    elif isinstance(schema, str):
        yield schema
