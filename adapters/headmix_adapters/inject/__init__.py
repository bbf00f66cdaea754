"""Adapters attached to a transformers model: for training, and as the oracle the serving engine is compared with.

adapter = attach(model, config, dropout=0.1)
trainer = Trainer(model=LanguageModel(model, adapter), args=..., train_dataset=..., data_collator=...)
"""

from headmix_adapters.inject.adapted import AdaptedModel, LanguageModel
from headmix_adapters.inject.attach import AttachedAdapter, attach
from headmix_adapters.inject.classifier import ClassifierModel
from headmix_adapters.inject.errors import AttachError
from headmix_adapters.inject.load import load_adapter

__all__ = [
    "AdaptedModel",
    "AttachError",
    "AttachedAdapter",
    "ClassifierModel",
    "LanguageModel",
    "attach",
    "load_adapter",
]
