"""What may be skipped, and what is looked at twice, as the caller says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cb_runtime.contract import FARTHEST
from cb_runtime.errors import UsageError

NONE, EQUAL, NOISE = "none", "equal", "noise"
SKIPS = (NONE, EQUAL, NOISE)
"""Which frames share the model's work of a frame before: none, those whose strip is equal to the bit, and those in
which nothing larger than a glyph's stroke differs by more than the video's noise."""


@dataclass(frozen=True)
class Skipping:
    """What of a video need not be looked at, and what is looked at once more."""

    skip: str = EQUAL
    """One of `SKIPS`."""
    coarse: int = 1
    """First distance, in frames, of the coarse-to-fine search: 2, 4, 8 or 16; 1 scores all pairs."""
    closer: bool = True
    """Whether changes in doubt are looked at once more, in pieces of the region; see `cb_runtime.closer_look`."""

    def __post_init__(self) -> None:
        if self.skip not in SKIPS:
            raise UsageError(f"--skip must be one of {', '.join(SKIPS)}, got {self.skip}.")
        if self.coarse not in (distances := [2**power for power in range(FARTHEST.bit_length())]):
            raise UsageError(f"--coarse must be one of {', '.join(map(str, distances))}, got {self.coarse}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


USUAL = Skipping(EQUAL, 4)
"""What is skipped in videos unless the caller says otherwise: no boundary is known to be lost by it, see
`benchmarks/skipping.py`; `Skipping()` changes no answer at all."""
