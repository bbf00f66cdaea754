"""These tests run the kernels in Triton's interpreter, which a process chooses before it first imports Triton.

`test_interpreted.py` next to this folder runs them in their own process; any other run leaves them out.
"""

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
