"""The mark of tests that one core cannot run."""

import pytest

from cb_runtime.cores import usable_cores

needs_two_cores = pytest.mark.skipif(usable_cores() < 2, reason="OpenVINO makes no more streams than there are cores")
