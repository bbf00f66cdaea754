"""Prepares `intents.csv`: requests to an assistant, labelled with what they are about. No source is needed.

The requests are those of the `tools` example. Held-out ones have other words, and ask for functions that are in no
request to learn as well.

python -m examples.data.prepare_intents
"""

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

from examples.data.dataset import SEED
from examples.data.tool_kinds import NEW, SEEN, Kind, Value

INTENTS = {
    "clock": ("get_time", "set_alarm", "set_timer"),
    "contacts": ("send_message", "call_contact"),
    "home": ("set_light", "set_temperature", "lock_door"),
    "knowledge": ("define_word", "get_news", "translate", "get_population"),
    "money": ("convert_currency", "stock_price", "calculate_tip"),
    "planning": ("add_reminder", "create_event", "add_to_list"),
    "travel": ("search_flights", "book_hotel", "order_taxi", "get_distance"),
    "weather": ("get_weather", "get_forecast"),
}
OPENINGS = ("", "", "", "Hello. ", "Hi! ", "Quick one: ", "I'm in a hurry. ", "Hey! ")
HELD_OUT_OPENINGS = ("", "", "", "Good morning. ", "One question: ", "OK. ")
EACH_TO_LEARN, EACH_HELD_OUT = 25, 10

Rows = list[tuple[str, str]]


def rows(kinds: Sequence[Kind], openings: Sequence[str], each: int, *, held_out: bool) -> Rows:
    """Return `each` different requests of every intent, shuffled."""
    chance = random.Random(SEED + held_out)
    found: dict[str, str] = {}
    for intent, names in INTENTS.items():
        possible = [kind for kind in kinds if kind.names[0] in names]
        wanted = len(found) + each
        while len(found) < wanted:
            kind = chance.choice(possible)
            values = drawn(kind, chance, held_out=held_out)
            found[chance.choice(openings) + chance.choice(kind.requests).format(**values)] = intent
    shuffled = list(found.items())
    chance.shuffle(shuffled)
    return shuffled


def drawn(kind: Kind, chance: random.Random, *, held_out: bool) -> dict[str, Value]:
    """Return a value for each parameter, no two the same."""
    values: dict[str, Value] = {}
    for key, parameter in kind.parameters.items():
        while (value := parameter.draw(chance, held_out)) in values.values():
            pass
        values[key] = value
    return values


def to_learn() -> Rows:
    """Return the 200 requests to learn."""
    return rows(SEEN, OPENINGS, EACH_TO_LEARN, held_out=False)


def held_out() -> Rows:
    """Return the 80 held-out requests."""
    return rows((*SEEN, *NEW), HELD_OUT_OPENINGS, EACH_HELD_OUT, held_out=True)


def write_csv(path: Path, labelled: Rows) -> None:
    """Write a table of `text` and `label`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *labelled])
    print(f"{path}: {len(labelled)} examples, {path.stat().st_size} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prepare the intents example's data.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "intents.csv", to_learn())
    write_csv(folder / "intents.eval.csv", held_out())
