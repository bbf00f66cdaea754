"""Owns the types of a classification."""

from headmix.types.result import Part, Result, Usage


class ClassificationItem(Part):
    """One input's result: the label (None for a regression) and one probability per class, in label order."""

    index: int
    label: str | None = None
    probs: tuple[float, ...]
    num_classes: int


class Classification(Result):
    """The response of POST /v1/classify: `data` in the order of the inputs."""

    id: str
    created: int
    model: str
    data: tuple[ClassificationItem, ...]
    usage: Usage | None = None

    @property
    def label(self) -> str | None:
        """The first input's label."""
        return self.data[0].label if self.data else None
