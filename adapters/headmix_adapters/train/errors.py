"""Errors before or during training, each with a message for the person who wrote the recipe."""


class TrainError(Exception):
    """Training cannot continue; the base class of this package's errors."""


class RecipeError(TrainError):
    """The recipe is invalid or contradicts itself; the message names the key."""


class DataError(TrainError):
    """A line of a data file cannot be used; the message names file and line."""


class TargetError(TrainError):
    """The artifact cannot be written to its path; nothing has been computed or replaced."""


class DivergedError(TrainError):
    """The loss is not finite or far above its start; nothing is kept of the run."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


class Interrupted(TrainError):
    """The person stopped the run; a checkpoint to resume from has been written."""
