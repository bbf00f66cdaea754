"""Turns the names of PEFT's tensors in files written by other tools into the names PEFT itself would have saved.

Owns what wrappers add before and inside a name (torch.compile, DDP, FSDP, PEFT twice) and the names of a raw state
dict: LoRAs with their adapter's name, saved modules next to their untrained copies. Does not look at values.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.convert.errors import ConvertError

# Name segments that wrappers add where they wrap a module; no module of a supported family has such a name.
_INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_BEFORE = re.compile(r"\A(?:module\.|base_model\.model\.)+")
_LORA = re.compile(r"(?P<module>.+\.lora_[AB])(?:\.(?P<adapter>[^.]+))?\.(?P<rest>weight|bias)")
# After a saved module's path: the trained copy, with or without the adapter's name, and the original it started from.
_TRAINED = re.compile(r"(?P<module>.+)\.modules_to_save(?:\.(?P<adapter>(?!dense\b|out_proj\b)[^.]+))?\.(?P<rest>.+)")
_MAGNITUDE = re.compile(
    r"(?P<module>.+)\.(?P<rest>lora_magnitude_vector)(?:\.(?P<adapter>(?!weight\Z)[^.]+))?(?:\.weight)?"
)
_TOKENS = re.compile(r"(?P<module>.+)\.token_adapter\.(?P<rest>trainable_tokens_delta)(?:\.(?P<adapter>[^.]+))?")
_UNTRAINED = re.compile(r"(?P<module>.+)\.original_module\.(?P<rest>.+)")


_FORMS = ((_LORA, ""), (_TRAINED, ""), (_MAGNITUDE, ""), (_TOKENS, "token_adapter."))


def saved_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names as PEFT saves them, without its prefix, each with its name in the file.

    A saved module's untrained copy is left out if the trained one is present.

    Raises:
        ConvertError: the file contains several adapters, two tensors with one meaning, or only an untrained copy.
    """
    result: dict[str, str] = {}
    untrained: dict[str, str] = {}
    adapters: set[str] = set()
    for name in tensors:
        saved = _unwrapped(name)
        if match := _UNTRAINED.fullmatch(saved):
            untrained[f"{match['module']}.{match['rest']}"] = name
            continue
        for pattern, inside in _FORMS:
            if match := pattern.fullmatch(saved):
                saved = f"{match['module']}.{inside}{match['rest']}"
                adapters |= {match["adapter"]} - {None}
                break
        if saved in result and not torch.equal(tensors[name], tensors[result[saved]]):
            raise ConvertError(name, f"the file holds this tensor twice, the other is {quoted(result[saved])}")
        result[saved] = name
    if len(adapters) > 1:
        raise ConvertError(
            min(tensors), f"the file holds several adapters ({', '.join(sorted(adapters))}); save one alone"
        )
    if alone := sorted(untrained.keys() - result.keys()):
        raise ConvertError(untrained[alone[0]], "the untrained copy of a saved module, without the trained one")
    return result


def _unwrapped(name: str) -> str:
    return _BEFORE.sub("", _INSIDE.sub("", name)).replace(".token_adapter.base_layer.", ".")
