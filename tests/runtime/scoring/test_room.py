"""Room for pixels: who waits for it, and who is told at once that there is none."""

import threading

from eventually import DEADLINE
from iqa_runtime.scoring.room import Room


def test_what_fits_is_taken_at_once_and_what_does_not_is_not() -> None:
    room = Room(10)
    assert room.take_now(6)
    assert room.take_now(4)
    assert not room.take_now(1)
    room.give_back(6)
    assert room.take_now(1)


def test_a_larger_picture_goes_alone() -> None:
    room = Room(10)
    assert room.take_now(11)
    assert not room.take_now(1)
    room.give_back(11)
    assert room.take_now(1)
    assert not room.take_now(11)


def test_nobody_overtakes_who_waits() -> None:
    room = Room(10)
    room.take(6)
    waiting = threading.Thread(target=room.take, args=(6,))
    waiting.start()
    while room.take_now(1):  # until it waits
        room.give_back(1)
    assert not room.take_now(1)
    room.give_back(6)
    waiting.join(DEADLINE)
    assert room.take_now(4)
