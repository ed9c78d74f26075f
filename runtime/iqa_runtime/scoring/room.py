"""Room for pictures: how many pixels there are at once, however many threads work on them."""

from __future__ import annotations

from threading import Condition, Lock

from iqa_runtime.forking import tell_after_fork


class Room:
    """Pixels that there may be at once. Safe to use from several threads.

    Decoders and networks take memory in proportion to the pixels of a picture. Pictures that are together no larger
    than the largest allowed take no more than that one would alone; so others wait, in the order in which they came.

    Parameters
    ----------
    pixels
        How many; a larger picture goes alone.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self.after_fork()
        tell_after_fork(self)

    def after_fork(self) -> None:
        """Begin anew: what takes room is the parent's."""
        self._turn = Lock()
        self._changed = Condition()
        self._taken = 0

    def take(self, pixels: int) -> None:
        """Take room for a picture, and wait until there is some."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self._pixels)
            self._taken += pixels

    def take_now(self, pixels: int) -> bool:
        """Take room for a picture if there is some and nobody waits for it; whether it was taken."""
        if not self._turn.acquire(blocking=False):
            return False
        with self._changed:
            fits = not self._taken or self._taken + pixels <= self._pixels
            self._taken += pixels if fits else 0
        self._turn.release()
        return fits

    def give_back(self, pixels: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._taken -= pixels
            self._changed.notify()
