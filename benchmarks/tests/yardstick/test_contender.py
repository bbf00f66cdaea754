"""Contenders take turns; every value is kept; a rival's failure is a result, a failure of headmix is an error."""

from dataclasses import dataclass, field

import pytest

from benchmarks.yardstick.contenders.contender import Measured, interleave


@dataclass
class Counting:
    name: str
    log: list[str]
    rival: bool = False
    fails_in: int = -1
    seen: list[int] = field(default_factory=list)

    def run(self, number: int) -> list[float]:
        if number == self.fails_in:
            raise RuntimeError("no more")
        self.log.append(self.name)
        self.seen.append(number)
        return [float(number), float(number) / 2]


def silent(_: str) -> None:
    pass


def test_contenders_take_turns_each_round_beginning_with_another_and_the_warm_up_is_not_counted() -> None:
    log: list[str] = []
    contenders = [Counting(name, log) for name in "abc"]
    found = interleave(contenders, 2, silent)
    assert "".join(log) == "abcbcacab"
    assert [contender.seen for contender in contenders] == [[0, 1, 2]] * 3
    assert [series.rounds for series in found] == [[[1.0, 0.5], [2.0, 1.0]]] * 3


@pytest.mark.parametrize("fails_in", [0, 1])
def test_a_rival_that_fails_is_out_and_the_others_go_on(fails_in: int) -> None:
    contenders = [Counting("ours", []), Counting("theirs", [], rival=True, fails_in=fails_in)]
    ours, theirs = interleave(contenders, 3, silent)
    assert theirs.failure == "RuntimeError: no more"
    assert (len(ours.rounds), ours.failure) == (3, None)
    measured = Measured(name="m", what="", unit="ms", series=[ours, theirs])
    assert (measured.find("ours"), measured.find("theirs")) == (ours, None)


def test_an_error_of_our_own_server_ends_the_benchmark() -> None:
    with pytest.raises(RuntimeError, match="no more"):
        interleave([Counting("ours", [], fails_in=1)], 2, silent)
