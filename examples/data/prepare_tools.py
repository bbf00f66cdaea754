"""Prepares the `tools` example: chats with functions, made from word lists. No source is needed.

python -m examples.data.prepare_tools
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.data.dataset import SEED, Record, write_jsonl
from examples.data.tool_kinds import NEW, SEEN, Kind, Value

NO_FUNCTION = "None of my functions can do that."
SMALL_TALK = (
    ("Hello!", "Hello! What can I do for you?"),
    ("Good morning.", "Good morning! What can I do for you?"),
    ("Thank you!", "You're welcome!"),
    ("Thanks, that was helpful.", "You're welcome!"),
    ("Who are you?", "I am an assistant that can call functions for you."),
    ("Goodbye!", "Goodbye!"),
)
SYSTEMS = (
    "You are a helpful assistant.",
    "You help travellers.",
    "Be brief.",
    "You are the assistant of a smart home.",
)
JOINTS = ("{}", "Also: {}", "And another thing: {}", "And then: {}")
SYSTEM_SHARE = 0.2
MOST_OTHERS = 2
TRAIN = {"one": 0.44, "two": 0.22, "answer": 0.16, "vague": 0.06, "none": 0.08, "talk": 0.04}
HELD_OUT = {"one": 40, "new": 24, "two": 20, "answer": 8, "none": 8}


@dataclass(frozen=True)
class Function:
    """A kind under one of its names; `keys` has the name of each parameter in this row."""

    kind: Kind
    name: str
    description: str
    keys: dict[str, str]

    def schema(self) -> Record:
        """Return it as a tool in OpenAI's form."""
        properties = {self.keys[key]: dict(parameter.schema) for key, parameter in self.kind.parameters.items()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Asked:
    """A request of a function: its text, and the values in it."""

    function: Function
    text: str
    values: dict[str, Value]

    def call(self, number: int) -> Record:
        """Return the call that answers it."""
        arguments = {self.function.keys[key]: value for key, value in self.values.items()}
        text = json.dumps(arguments, ensure_ascii=False)
        return {"id": f"call_{number}", "type": "function", "function": {"name": self.function.name, "arguments": text}}


class Rows:
    """Draws rows with a seed."""

    def __init__(self, seed: int, *, held_out: bool) -> None:
        self._chance = random.Random(seed)
        self._held_out = held_out

    def row(self, form: str) -> Record:
        """Return a row of a form: a key of `TRAIN` or `HELD_OUT`."""
        makers: dict[str, Callable[[], Record]] = {
            "one": lambda: self._calls(1, SEEN),
            "new": lambda: self._calls(1, NEW),
            "two": lambda: self._calls(2, SEEN),
            "answer": self._answer,
            "vague": self._vague,
            "none": self._none,
            "talk": self._talk,
        }
        return makers[form]()

    def _calls(self, number: int, kinds: Sequence[Kind]) -> Record:
        asked = self._asked(number, kinds)
        return self._row(asked, [self._user(asked), self._calling(asked)])

    def _answer(self) -> Record:
        asked = self._asked(self._chance.choice((1, 1, 2)), SEEN)
        messages = [self._user(asked), self._calling(asked)]
        told = []
        for number, one in enumerate(asked, start=1):
            result = {key: draw(self._chance, self._held_out) for key, draw in one.function.kind.result.items()}
            messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": json.dumps(result)})
            sentence = self._chance.choice(one.function.kind.answers).format(**{**one.values, **result})
            told.append(sentence[:1].upper() + sentence[1:])
        return self._row(asked, [*messages, _says("assistant", " ".join(told))])

    def _vague(self) -> Record:
        kind = self._chance.choice([kind for kind in SEEN if kind.vague])
        asked, question = kind.vague or ("", "")
        function = self._function(kind)
        messages = [_says("user", asked), _says("assistant", question)]
        return self._row([Asked(function, asked, {})], messages)

    def _none(self) -> Record:
        wanted, *others = self._chance.sample(SEEN, 3)
        given = [self._ask(kind) for kind in others[: self._chance.choice((1, 2))]]
        messages = [self._user([self._ask(wanted)]), _says("assistant", NO_FUNCTION)]
        return self._row(given, messages, others=0)

    def _talk(self) -> Record:
        said, answer = self._chance.choice(SMALL_TALK)
        messages = [_says("user", said), _says("assistant", answer)]
        return self._row(self._asked(1, SEEN), messages)

    def _asked(self, number: int, kinds: Sequence[Kind]) -> list[Asked]:
        """Return requests of different functions, or of one function twice."""
        if number == 2 and self._chance.random() < 0.4:
            function = self._function(self._chance.choice(kinds))
            return [self._ask_function(function), self._ask_function(function)]
        return [self._ask(kind) for kind in self._chance.sample(kinds, number)]

    def _ask(self, kind: Kind) -> Asked:
        return self._ask_function(self._function(kind))

    def _ask_function(self, function: Function) -> Asked:
        kind = function.kind
        values: dict[str, Value] = {}
        for key, parameter in kind.parameters.items():
            while (value := parameter.draw(self._chance, self._held_out)) in values.values():
                pass
            values[key] = value
        return Asked(function, self._chance.choice(kind.requests).format(**values), values)

    def _function(self, kind: Kind) -> Function:
        keys: dict[str, str] = {}
        for key, parameter in kind.parameters.items():
            keys[key] = self._chance.choice([name for name in parameter.names if name not in keys.values()])
        return Function(kind, self._chance.choice(kind.names), self._chance.choice(kind.descriptions), keys)

    def _user(self, asked: Sequence[Asked]) -> Record:
        first, *more = (one.text for one in asked)
        joined = [self._chance.choice(JOINTS).format(text) for text in more]
        return _says("user", " ".join([first, *joined]))

    def _calling(self, asked: Sequence[Asked]) -> Record:
        calls = [one.call(number) for number, one in enumerate(asked, start=1)]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    def _row(self, asked: Sequence[Asked], messages: list[Record], *, others: int = MOST_OTHERS) -> Record:
        """Return a row whose tools are the functions asked for and up to `others` more, in any order."""
        functions = list({one.function.name: one.function for one in asked}.values())
        used = [function.kind for function in functions]
        rest = [kind for kind in SEEN if kind not in used]
        more = self._chance.sample(rest, self._chance.randint(0, others))
        functions += [self._function(kind) for kind in more]
        self._chance.shuffle(functions)
        system = self._chance.random() < SYSTEM_SHARE
        first = [_says("system", self._chance.choice(SYSTEMS))] if system else []
        return {"messages": [*first, *messages], "tools": [function.schema() for function in functions]}


def _says(role: str, content: str) -> Record:
    return {"role": role, "content": content}


def train_rows(count: int) -> list[Record]:
    """Return the rows to learn, in the shares of `TRAIN`."""
    rows, forms = Rows(SEED, held_out=False), random.Random(SEED)
    chosen = forms.choices(list(TRAIN), list(TRAIN.values()), k=count)
    return [rows.row(form) for form in chosen]


def held_out_rows() -> list[Record]:
    """Return the held-out rows, whose values and some of whose functions are not in training."""
    rows = Rows(SEED + 1, held_out=True)
    return [rows.row(form) for form, count in HELD_OUT.items() for _ in range(count)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prepare the tools example's data.")
    parser.add_argument("--rows", type=int, default=800, help="rows to learn")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    arguments = parser.parse_args()
    write_jsonl(arguments.out / "tools.train.jsonl", train_rows(arguments.rows))
    write_jsonl(arguments.out / "tools.eval.jsonl", held_out_rows())
