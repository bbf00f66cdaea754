"""What a row costs its tenant: a prompt token once, and the token that the row yields, apart for background work."""

from harness.engine.engines import generate
from headmix_server.engine.scheduling.charges import FORGET_ABOVE, Charges
from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST, VirtualCounters
from headmix_server.engine.sequence import Sequence


def sequence(tenant: str, prompt: int, *, background: bool = False) -> Sequence:
    message = generate("r", [1] * prompt, tenant=tenant, max_tokens=9, background=background)
    return Sequence.from_message(0, message, 0.0)


def test_a_prompt_is_charged_once_however_often_it_is_computed() -> None:
    charges, asked = Charges(VirtualCounters()), sequence("a", 10)
    charges.row(asked, 4)
    assert charges.service(asked) == 4 * INPUT_COST
    asked.num_computed = 4
    charges.row(asked, 6)
    assert charges.service(asked) == 10 * INPUT_COST + OUTPUT_COST
    asked.num_computed = 0  # it was preempted
    charges.row(asked, 4)
    assert charges.service(asked) == 10 * INPUT_COST + OUTPUT_COST


def test_background_work_is_charged_apart() -> None:
    charges, asked, batch = Charges(VirtualCounters()), sequence("a", 10), sequence("a", 10, background=True)
    charges.generated([batch, batch], background=True)
    charges.drafted(batch, 3)
    assert charges.service(batch) == 5 * OUTPUT_COST
    assert charges.service(asked) == 0


def test_absent_tenants_are_forgotten_once_there_are_many_and_then_when_there_are_twice_as_many() -> None:
    charges = Charges(VirtualCounters())
    everybody = [sequence(f"t{n}", 1) for n in range(FORGET_ABOVE + 1)]
    due = []
    for one in everybody:
        charges.row(one, 1)
        due.append(charges.are_many)
    assert due == [False] * FORGET_ABOVE + [True]
    charges.forget_absent(everybody, known=())
    assert not charges.are_many
    charges.forget_absent(everybody[:1], known=())
    assert [charges.service(one) > 0 for one in everybody[:2]] == [True, False]
