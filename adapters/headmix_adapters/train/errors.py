"""What can go wrong before or during training, each with a message for the person who wrote the recipe."""


class TrainError(Exception):
    """Training cannot go on; the root of this package's errors."""


class RecipeError(TrainError):
    """The recipe is not understood or contradicts itself; the message names the key."""


class DataError(TrainError):
    """A line of a data file cannot be used; the message names file and line."""


class TargetError(TrainError):
    """The artifact cannot be written where it is to go; nothing has been computed or replaced."""


class Interrupted(TrainError):
    """The person stopped the run; a checkpoint to resume from has been written."""
