"""The fastest way to run an artifact on this machine: measured at first use, kept for the next time.

Several engines open `.onnx` files, in several precisions, with more or fewer streams; which is fastest depends on the
machine and on the model. So each way that answers as PyTorch did is timed by turns with the plain engine on the work
that counts, and the fastest is taken. Near ties go to the plain engine, so that the choice is stable.
"""

from cb_runtime.engine_choice.opening import open_fastest
from cb_runtime.engine_choice.ways import Choice, Trial, Way

__all__ = ["Choice", "Trial", "Way", "open_fastest"]
