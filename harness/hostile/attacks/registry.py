"""Every attack by name."""

from collections.abc import Mapping
from types import MappingProxyType

from harness.hostile.attacks import before_a_key, inference, management, uploads
from harness.hostile.attacks.attack import Attack

ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {attack.name: attack for module in (before_a_key, inference, uploads, management) for attack in module.ATTACKS}
)
