"""The chat template that an adapter brings: a tenant's, so it is only ever rendered for that adapter, in a text worker.

Rendering may take any amount of time and memory, which a worker bounds. Knows no messages; `workers.jobs` renders.
"""

from dataclasses import dataclass

COMPILE_SECONDS = 5.0
"""Processor time that compiling a template may take; 64 KiB of expressions take one second."""

RENDER_SECONDS = 2.0
"""Processor time that rendering may take for one request, compiling included where the worker no longer has it."""


@dataclass(frozen=True, slots=True)
class AdapterTemplate:
    """An adapter's own chat template, as jinja source."""

    source: str
    response_template: None = None
    """What a base may declare about how its answers are parsed; an adapter declares nothing."""

    @property
    def tool_source(self) -> str:
        """The source that is rendered where there are tools."""
        return self.source


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What a chat template reads.

    `takes_tools`: it shows tools to the model. `variables` are those it takes from a request, `fixed` those that the
    base and the conversation set.
    """

    takes_tools: bool
    variables: frozenset[str]
    fixed: frozenset[str]
