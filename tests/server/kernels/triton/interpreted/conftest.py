"""These tests run the kernels in Triton's interpreter, which must be selected before Triton is first imported.

`test_interpreted.py` next to this folder runs them in their own process; any other run skips them.
"""

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
