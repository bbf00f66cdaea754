"""Reading config.json so that no field that changes the result is overlooked.

A config is either understood in full or refused with every reason. A family reads each field that its mathematics
depends on, or requires the one value that it implements; `INERT` names the fields that change nothing. A test compares
both with transformers' own list of a family's fields. Like transformers, it ignores fields that transformers does not
know.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from headmix_server.models.config import UnsupportedModelError

INERT = frozenset(
    {
        *("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout", "embd_pdrop"),
        *("hidden_dropout_prob", "resid_pdrop", "initializer_range", "pretraining_tp"),
        *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"),
        *("bos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "chunk_size_feed_forward"),
        *("output_attentions", "output_hidden_states", "return_dict", "use_cache", "reorder_and_upcast_attn"),
        *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
    }
)
"""Dropout and initial values matter only in training; the rest is bookkeeping, unused heads, or precision."""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file.

    Raises:
        UnsupportedModelError: the file cannot be read or contains none.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise UnsupportedModelError(f"{path} is not a JSON object")
    return raw


class ConfigReader:
    """The fields of one config.json; collects what is wrong with them until `refuse_faults`.

    `seen` are the fields that the family has read. A null field counts as absent, as in transformers.
    """

    def __init__(self, raw: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> None:
        self.seen = {"model_type"}
        self.model_type = str(raw.get("model_type"))
        self._raw = raw
        self._generation = generation or {}
        self._faults: list[str] = []
        if raw.get("quantization_config"):
            self.fault("quantization_config (convert the checkpoint to plain weights first)")
        self.require("is_encoder_decoder", False)  # transformers' own default; any other value means another model

    def fault(self, reason: str) -> None:
        """Note a reason to refuse the base."""
        self._faults.append(reason)

    def refuse_faults(self) -> None:
        """Raise with every noted reason, if there is one.

        Raises:
            UnsupportedModelError: the config requires something unsupported.
        """
        if self._faults:
            raise UnsupportedModelError(f"this base is not supported: {'; '.join(self._faults)}")

    def demand(self, *names: str) -> None:
        """Require that fields are present, if only as null: their defaults differ between families and releases."""
        for name in names:
            if name not in self._raw:
                self.fault(f"config.json lacks {name}")

    def get(self, *names: str) -> object:
        """Return the value of the first name that is present, or None. Further names are older or alternative."""
        self.seen.update(names)
        return next((self._raw[name] for name in names if self._raw.get(name) is not None), None)

    def mapping(self, *names: str) -> dict[str, Any]:
        """Return an object's fields; none if it is absent."""
        value = self.get(*names)
        if isinstance(value, dict):
            return dict(value)
        if value is not None:
            self._refuse(names[0], value, "an object")
        return {}

    def size(self, *names: str, default: int | None = None) -> int:
        """Return a positive integer; without a default the field is required."""
        value = self.get(*names)
        value = default if value is None else value
        if type(value) is int and value > 0:
            return value
        self._refuse(names[0], value, "a positive integer")
        return 1

    def number(self, *names: str, default: float | None = None) -> float:
        """Return a positive number; without a default the field is required."""
        value = self.get(*names)
        value = default if value is None else value
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        self._refuse(names[0], value, "a positive number")
        return 1.0

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self.get(name)
        if value is not None and type(value) is not bool:
            self._refuse(name, value, "true or false")
        return default if value is None else bool(value)

    def choice(self, name: str, *, default: str, allowed: Collection[str]) -> str:
        """Return one of the allowed strings; the default must be one of them."""
        value = self.get(name)
        if isinstance(value, str) and value in allowed:
            return value
        if value is not None:
            self._refuse(name, value, f"served: {', '.join(allowed)}")
        return default

    def require(self, name: str, *values: object) -> None:
        """Require that a field is absent, null, or one of the values."""
        value = self.get(name)
        if value is not None and value not in values:
            self.fault(f"{name}={json.dumps(value)}")

    def _refuse(self, name: str, value: object, wanted: str) -> None:
        self.fault(f"config.json lacks {name}" if value is None else f"{name}={json.dumps(value)} ({wanted})")

    def eos_ids(self) -> frozenset[int]:
        """Return the ids that end a generation: those of generation_config.json if it has any, else this file's."""
        value = self._generation.get("eos_token_id", self.get("eos_token_id"))
        ids = value if isinstance(value, list) else [value]
        return frozenset(int(token) for token in ids if token is not None)
