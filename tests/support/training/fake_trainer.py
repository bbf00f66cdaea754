"""Stands in for `headmix train`: adds up its steps, keeps checkpoints, resumes from one, and fails as it is told.

    python fake_trainer.py MODE RECIPE --output ARTIFACT --events FILE --checkpoint-seconds N [--resume]

MODE is `ok`, `slow` (waits for a signal after its third step), `dies` (is killed after its third step, whenever it
starts), `dies-once` (only if it has not been resumed), `diverges`, `refuses`, `full` (the disk is), `fails` or `silent`
(ends without an event).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

STEPS, EVERY, AT = 6, 2, 3
BODY = "the artifact after steps {}"


class Run:
    """One process."""

    def __init__(self, mode: str, arguments: list[str]) -> None:
        self.mode = mode
        self.events = Path(arguments[arguments.index("--events") + 1])
        self.artifact = Path(arguments[arguments.index("--output") + 1])
        self.folder = self.artifact.with_name(f"{self.artifact.stem}.checkpoints")
        self.resumed = "--resume" in arguments
        self.stopped = False
        Path(arguments[0]).read_text()
        signal.signal(signal.SIGINT, self.stop)

    def stop(self, _: int, __: FrameType | None) -> None:
        self.stopped = True

    def say(self, event: str, **fields: object) -> None:
        with self.events.open("a") as file:
            file.write(json.dumps({"event": event, **fields}) + "\n")

    def main(self) -> int:
        if self.mode == "silent":
            print("killed by a bug")
            return 1
        if self.mode == "refuses":
            return self.end(2, "failed", message="line 3 has no text")
        about = {"name": "a", "task": "classification", "epochs": 1, "train_examples": 3, "valid_examples": 1}
        scores = {"score_name": "accuracy", "greater_is_better": True, "base": {"accuracy": 0.25}}
        self.say("started", **about, **scores, steps=STEPS, linear_classifier={"accuracy": 0.5})
        done = last_checkpoint(self.folder) if self.resumed else []
        for step in done:
            self.say_step(step)
        if self.resumed:
            self.say("resumed", step=len(done))
        for step in range(len(done) + 1, STEPS + 1):
            status = self.step(step, done)
            if status is not None:
                return status
        scores = {"accuracy": 0.75}
        self.say("scored", step=STEPS, epoch=1.0, train_loss=0.2, valid_loss=0.3, score=0.75, scores=scores)
        self.artifact.write_text(BODY.format(done))
        self.say("done", artifact=str(self.artifact), digest="d", steps=STEPS, scores=scores, below_base=False)
        return 0

    def step(self, step: int, done: list[int]) -> int | None:
        done.append(step)
        self.say_step(step)
        if step == AT and self.mode == "diverges":
            return self.end(4, "diverged", step=step, message="the loss is not finite after step 3")
        if step == AT and self.mode == "full":
            return self.end(1, "failed", message="[Errno 28] No space left on device: 'checkpoint'")
        if step == AT and self.mode == "fails":
            return self.end(1, "failed", message="out of memory")
        if step % EVERY == 0:
            self.checkpoint(done)
        if step == AT and (self.mode == "dies" or (self.mode == "dies-once" and not self.resumed)):
            os.kill(os.getpid(), signal.SIGKILL)
        while step == AT and self.mode == "slow" and not self.resumed and not self.stopped:
            time.sleep(0.01)
        if self.stopped:
            self.checkpoint(done)
            return self.end(130, "interrupted", message=f"stopped after step {step}")
        return None

    def say_step(self, step: int) -> None:
        self.say("step", step=step, epoch=step / STEPS, train_loss=1 / step, learning_rate=0.1, tokens=10 * step)

    def end(self, status: int, event: str, **fields: object) -> int:
        self.say(event, status=status, **fields)
        return status

    def checkpoint(self, done: list[int]) -> None:
        folder = self.folder / f"checkpoint-{done[-1]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trainer_state.json").write_text(json.dumps(done))
        self.say("checkpoint", step=done[-1], path=str(folder))


def last_checkpoint(folder: Path) -> list[int]:
    newest = max(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))
    found: list[int] = json.loads((folder / f"checkpoint-{newest}" / "trainer_state.json").read_text())
    return found


if __name__ == "__main__":
    sys.exit(Run(sys.argv[1], sys.argv[2:]).main())
