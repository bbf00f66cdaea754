"""Images keep their numbers while others come and go, and memory is reused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headmix_server.device.adapters import image_arena
from headmix_server.device.adapters.adapter_image import ALIGNMENT
from headmix_server.device.adapters.image_arena import ImageArena


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=40))
def test_every_image_stays_as_it_was_put_while_others_come_and_go(steps: list[tuple[bool, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_arena, "RESERVE", 0)  # so that it grows again and again
        arena = ImageArena(2, torch.float32)
        held: dict[int, Tensor] = {}
        for serial, (put, size) in enumerate(steps):
            if put:
                image = torch.full((size,), float(serial + 1))
                start = arena.put(image)
                assert start % ALIGNMENT == 0
                assert start not in held
                held[start] = image
            elif held:
                start = sorted(held)[size % len(held)]
                held.pop(start)
                arena.remove(start)
            for start, image in held.items():
                assert torch.equal(arena.numbers[start : start + image.numel()], image)
        for start in held:
            arena.remove(start)
        assert arena.num_used == 0


def test_slots_full_of_images_like_the_first_never_move_it() -> None:
    arena = ImageArena(8, torch.bfloat16)
    arena.put(torch.ones(500, dtype=torch.bfloat16))
    place = arena.numbers.data_ptr()
    for _ in range(7):
        arena.put(torch.ones(3 * 500, dtype=torch.bfloat16))
    assert arena.numbers.data_ptr() == place
