"""What a body may say of an answer's form: OpenAI's `response_format` and vLLM's `structured_outputs`."""

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from headmix_server.api.schemas.body import RequestBody
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.neutral import Neutral

Schema = dict[str, Any] | bool


def _parsed(schema: object) -> object:
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema)
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the schema is not JSON: {error}") from None


SchemaOrText = Annotated[Schema, BeforeValidator(_parsed, json_schema_input_type=Schema | str)]
"""As vLLM takes it: a schema, or one as a JSON text."""


class JsonSchemaFormat(RequestBody):
    """A schema with its name, which is the client's own. `strict` changes nothing: every schema is enforced."""

    drops_null: ClassVar[bool] = True

    name: Annotated[Text, Field(max_length=64)]
    description: Text | None = None
    schema_: Annotated[Schema | None, Field(alias="schema", description="Any JSON where it is absent.")] = None
    strict: bool | None = None


class StructureBody(RequestBody):
    """After `begin` a JSON text that fits the schema, then `end`."""

    begin: Annotated[Text, Field(min_length=1)]
    schema_: Annotated[Schema, Field(alias="schema")]
    end: Text


class TagsBody(RequestBody):
    """vLLM's structural tags: free text in which whatever begins with a trigger is one of the structures."""

    type: Literal["structural_tag"] = "structural_tag"
    structures: Annotated[list[StructureBody], Field(min_length=1, max_length=128, fail_fast=True)]
    triggers: Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=1, max_length=128, fail_fast=True)]


class ResponseFormat(RequestBody):
    """The form of the answer: `text` is any, `json_object` any JSON object."""

    drops_null: ClassVar[bool] = True

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    structures: Annotated[list[StructureBody], Field(max_length=128, fail_fast=True)] | None = None
    triggers: Annotated[list[Text], Field(max_length=128, fail_fast=True)] | None = None


class StructuredOutputs(RequestBody):
    """vLLM's: exactly one of `json`, `regex`, `choice`, `grammar`, `json_object` and `structural_tag`.

    A `grammar` is Lark or GBNF. `structural_tag` is the JSON text of a `response_format` of that type.
    """

    drops_null: ClassVar[bool] = True
    neutral: ClassVar[Neutral] = {"disable_fallback": (False, True)}

    json_: Annotated[SchemaOrText | None, Field(alias="json")] = None
    regex: Text | None = None
    choice: Annotated[list[Text], Field(fail_fast=True)] | None = None
    grammar: Text | None = None
    json_object: bool | None = None
    structural_tag: Text | None = None
    whitespace_pattern: Annotated[Text, Field(max_length=256)] | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
