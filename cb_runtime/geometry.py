"""Rectangles in frame coordinates."""

from __future__ import annotations

from dataclasses import dataclass

from cb_runtime.errors import UsageError


@dataclass(frozen=True, order=True)
class Box:
    """A rectangle `[left, right) x [top, bottom)` in pixels of the displayed frame."""

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if self.left < 0 or self.top < 0 or self.right <= self.left or self.bottom <= self.top:
            raise UsageError(
                f"A region needs 0 <= left < right and 0 <= top < bottom, got "
                f"left={self.left}, top={self.top}, right={self.right}, bottom={self.bottom}."
            )

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    def inside(self, frame_width: int, frame_height: int) -> bool:
        """Tell whether the box lies wholly inside a frame of this size."""
        return self.right <= frame_width and self.bottom <= frame_height

    def as_tuple(self) -> tuple[int, int, int, int]:
        """Return `(left, top, right, bottom)`."""
        return (self.left, self.top, self.right, self.bottom)
