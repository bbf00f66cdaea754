"""The variables that a chat template reads from its caller; finding them evaluates nothing of the template."""

import jinja2
from jinja2.compiler import Frame
from jinja2.meta import TrackingCodeGenerator
from jinja2.nodes import Impossible, Node


def variables_read(environment: jinja2.Environment, source: str) -> frozenset[str]:
    """Return the names of the variables that a valid template reads and does not itself set before.

    The environment's own names, such as `range`, are not among them.
    """
    reads = _Reads(environment)
    reads.visit(environment.parse(source))
    return frozenset(reads.undeclared_identifiers)


class _Reads(TrackingCodeGenerator):
    """jinja2's finder, without the evaluation of constants: one as short as `'a' * 10**12` would take all memory."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.optimizer = None

    def _output_child_to_const(self, node: Node, frame: Frame, finalize: object) -> str:
        raise Impossible
