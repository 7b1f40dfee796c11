"""Makes the tiny models and videos of the runtime's tests importable here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "cb_runtime"))
