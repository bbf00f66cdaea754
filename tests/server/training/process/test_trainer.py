"""A training is out of a terminal's reach, and in the session within which its low priority counts."""

import os
import sys
from pathlib import Path

from headmix_server.training.process.launch import TrainerLimits
from headmix_server.training.process.trainer import LOG, Trainer

GROUPS = "import os; print(os.getpgrp() == os.getpid(), os.getsid(0))"
PATIENCE_SECONDS = 60.0


def test_a_training_has_a_process_group_in_the_session_of_its_parent(tmp_path: Path) -> None:
    trainer = Trainer([sys.executable, "-c", GROUPS], tmp_path, TrainerLimits(), os.environ)
    assert trainer.wait(PATIENCE_SECONDS)
    assert (tmp_path / LOG).read_text().split() == ["True", str(os.getsid(0))]
