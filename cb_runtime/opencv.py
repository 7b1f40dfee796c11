"""OpenCV, imported when something of it is first used: `from cb_runtime import opencv as cv2`.

It takes a while to import, and a service that scores pictures as they come never needs it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever OpenCV has)
    import cv2

    found = globals()[name] = getattr(cv2, name)  # from now on found without coming here
    return found
