"""Scripts of the independent test set import each other as neighbours; so do their tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "independent"))
