"""Loads an artifact into a transformers model: the oracle that serving is compared with, also used for evaluation.

Checks dimensions through `attach`; `artifact.verify` checks whether the file can be trusted.
"""

from pathlib import Path

from transformers import PreTrainedModel

from headmix_adapters.artifact import open_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.inject.adapted import LanguageModel
from headmix_adapters.inject.attach import attach
from headmix_adapters.inject.classifier import ClassifierModel


def load_adapter(model: PreTrainedModel, path: Path) -> LanguageModel | ClassifierModel:
    """Attach the adapter in a file to the model, in evaluation mode.

    A generation adapter returns a `LanguageModel` (the model itself also generates with the adapter until
    `.adapter.detach()`), a classification adapter a `ClassifierModel`.

    Raises:
        ArtifactError: the file is not an artifact.
        AttachError: its dimensions differ from the model's.
    """
    artifact = open_artifact(path)
    adapter = attach(model, artifact.config, artifact.layers)
    adapter.load(load_tensors(path))
    kind = ClassifierModel if artifact.config.task == "classification" else LanguageModel
    return kind(model, adapter).eval()
