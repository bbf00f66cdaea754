"""The page on `headmix_server.LLM`: the class, its batches, and what they take and return."""

import inspect
from collections.abc import Iterator, Mapping

import msgspec

from docs.site.reference.docstrings import annotation, docstring, signature
from docs.site.reference.markdown import code, table
from headmix_server import llm

_HEAD = """# Python: `headmix_server.LLM`

Generated from the docstrings. [In one process](../in-process.md) has examples.

"""


def python_llm_page() -> str:
    """Return the page."""
    return _HEAD + "".join(_class(kind) for kind in (llm.LLM, llm.Batch, llm.Pending)) + _values()


def _class(kind: type) -> str:
    made = signature(kind.__name__, kind.__init__, "") if kind is llm.LLM else ""
    return f"## {kind.__name__}\n\n{made}{docstring(kind)}{''.join(_members(kind))}"


def _members(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        title = f"### {kind.__name__}.{name}\n\n"
        if isinstance(member, property) and member.fget is not None:
            returned = annotation(inspect.get_annotations(member.fget, eval_str=True)["return"])
            yield f"{title}```python\n{name}: {returned}\n```\n\n{docstring(member)}"
        elif inspect.isfunction(member):
            yield f"{title}{signature(name, member)}{docstring(member)}"


def _values() -> str:
    """Return the plain data classes: what a method takes or returns, field by field."""
    defaults = {field.name: repr(field.default) for field in msgspec.structs.fields(llm.SamplingParams)}
    shown = f"## SamplingParams\n\n{docstring(llm.SamplingParams)}"
    shown += table(("field", "type", "default"), _fields(llm.SamplingParams, defaults | {"max_tokens": "required"}))
    for kind in (llm.Generation, llm.Classification, llm.Embedding):
        shown += f"## {kind.__name__}\n\n{docstring(kind)}{table(('field', 'type'), _fields(kind))}"
    return shown


def _fields(kind: type, defaults: Mapping[str, str] | None = None) -> Iterator[list[str]]:
    for name, hint in inspect.get_annotations(kind, eval_str=True).items():
        yield [code(name), code(annotation(hint)), *([defaults[name]] if defaults is not None else [])]
