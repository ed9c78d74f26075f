"""Whether a file of video is whole: its container is walked to the end that it states, before anything is decoded.

MP4 and QuickTime (ISO/IEC 14496-12; QuickTime File Format) are boxes within boxes, Matroska and WebM (RFC 9559) are
elements of EBML (RFC 8794). Only what decides where data ends is read here; the rest is libavformat's.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from iqa_runtime.errors import ImageError
from iqa_runtime.images.foreign import Container, kind_of, video_container
from iqa_runtime.images.formats import is_image
from iqa_runtime.images.header import DAMAGED

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm")
"""Lower-case suffixes that make a file in a folder a video; the content alone decides how it is read."""

UNREAD_VIDEO_SUFFIXES = (".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".wmv")
"""Lower-case suffixes of videos in containers that are not read: in a folder, each is an error instead of silence."""

HEAD_BYTES = 512
"""Of a file, enough to recognise it by."""

REMUX = "put it into Matroska, without coding it again: ffmpeg -i FILE -map 0:v -c copy clip.mkv"

_MAX_PARTS = 2_000_000  # of a file: five hours with a block for each of 60 frames and 50 pieces of sound a second
_MAX_SAMPLES = 10_000_000  # of which FFmpeg's index takes 240 MB: a day and a half at 60 frames a second
_WITHIN = {b"edts", b"mdia", b"minf", b"stbl"}
_SOUND = int.from_bytes(b"soun")
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_TOP_LEVEL = {  # elements of a segment, RFC 9559, 5.1
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367),
    *(0xEC, 0xBF),
}
_IN_CLUSTER = {0xE7, 0x5854, 0xA7, 0xAB, _SIMPLE_BLOCK, _BLOCK_GROUP, 0xAF, 0xEC, 0xBF}
_LACED = 0x06  # flags of a block


@dataclass(frozen=True, slots=True)
class Structure:
    """What a container says about itself.

    Attributes
    ----------
    container
        Which it is.
    size
        Of the file, in bytes.
    blocks
        How many pieces of data each track has, by its number; None where libavformat's index says it (MP4).
    """

    container: Container
    size: int
    blocks: Counter[int] | None = None


def is_video(head: bytes) -> bool:
    """Tell whether a file whose first `HEAD_BYTES` these are is a video that could be read."""
    return not is_image(head) and video_container(head) is not None


def check_structure(file: BinaryIO) -> Structure:
    """Walk a file to the end that it states.

    Parameters
    ----------
    file
        At any position; it is left at its beginning.

    Raises
    ------
    ImageError
        If it is no container that is read, is truncated or visibly corrupt, or states no end: nobody could tell a part
        of it from the whole.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    size = file.seek(0, 2)
    if not size:
        raise ImageError(f"the file is empty; {DAMAGED}")
    if not is_video(head):
        kind = kind_of(head) or ("an image" if is_image(head) else "no video of a known format")
        raise ImageError(f"this is {kind}; videos are read from MP4, QuickTime, Matroska and WebM: {REMUX}")
    container = video_container(head)
    if container is Container.MATROSKA:
        structure = Structure(container, size, _count_blocks(file, size))
    else:
        _check_boxes(file, size)
        structure = Structure(Container.MP4, size)
    file.seek(0)
    return structure


def _truncated(what: str, size: int) -> ImageError:
    return ImageError(f"truncated or corrupt: {what}, in a file of {size} bytes; {DAMAGED}")


def _check_boxes(file: BinaryIO, size: int) -> None:
    """Check that the boxes of a file lie in it, and that one in fragments says where the last of them is.

    FFmpeg makes an entry of an index for whatever a file says that it holds, before anything of it is read.
    """
    kinds: Counter[bytes] = Counter()
    samples = 0
    for kind, start, end in _boxes(file, 0, size):
        kinds[kind] += 1
        if kind == b"sidx":
            indexed = end + _indexed_bytes(file, start, end)
            if indexed > size:
                raise _truncated(f"its fragments should end at byte {indexed}", size)
        elif kind in (b"moov", b"moof"):
            samples += _samples_within(file, start, end)
            if samples > min(size, _MAX_SAMPLES):
                raise ImageError(f"corrupt: {samples} coded frames and sounds in {size} bytes; {DAMAGED}")
    if not kinds[b"moov"]:
        raise _truncated("no box that describes its tracks (moov)", size)
    # An index of all fragments comes first, or last; one before each says nothing about those that follow.
    if kinds[b"moof"] and not kinds[b"mfra"] and kinds[b"sidx"] != 1:
        raise ImageError(f"fragmented MP4 that does not say how many fragments there are; {REMUX}")


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box of a part of a file."""
    for _ in range(_MAX_PARTS):
        if start >= end:
            return
        file.seek(start)
        header = file.read(16)
        length, kind, content = int.from_bytes(header[:4]), header[4:8], 8
        if length == 1:
            length, content = int.from_bytes(header[8:]), 16
        elif length == 0:
            length = end - start
        if len(header) < content or length < content or start + length > end:
            raise _truncated(f"the box at byte {start} should take {length} bytes", end)
        if not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            raise _truncated(f"no box at byte {start}", end)
        yield kind, start + content, start + length
        start += length
    raise ImageError(f"corrupt: more than {_MAX_PARTS} boxes; {DAMAGED}")


def _leaves(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield kind and start of the content of the boxes within a track or a fragment."""
    for kind, inner, inner_end in _boxes(file, start, end):
        if kind in _WITHIN:
            yield from _leaves(file, inner, inner_end)
        else:
            yield kind, inner


def _samples_within(file: BinaryIO, start: int, end: int) -> int:
    """Return how many entries FFmpeg's index has for the tracks (``moov``) or the fragment (``moof``) of a box."""
    total = 0
    for track, inner, inner_end in _boxes(file, start, end):
        if track not in (b"trak", b"traf"):
            continue
        samples, edits = 0, 1
        is_sound = is_uniform = is_steady = False
        for kind, at in _leaves(file, inner, inner_end):
            file.seek(at)
            _, second, third, fourth = struct.unpack(">4I", file.read(16).ljust(16, b"\0"))
            if kind == b"hdlr":
                is_sound |= third == _SOUND
            elif kind in (b"stsz", b"stz2"):
                samples += third
                is_uniform = second > 0
            elif kind == b"stts":
                is_steady = (second, fourth) == (1, 1)
            elif kind == b"trun":
                samples += second
            elif kind == b"elst":
                edits = max(edits, second)  # each may show all of a track
        if not (is_sound and is_uniform and is_steady):  # of PCM there is an entry a chunk
            total += samples * edits
    return total


def _indexed_bytes(file: BinaryIO, start: int, end: int) -> int:
    """Return how many bytes behind it a segment index (14496-12, 8.16.3) is about."""
    file.seek(start)
    index = file.read(min(end - start, 1 << 20))
    first = (16, 4) if index[:1] == b"\0" else (20, 8)
    entries = sum(first) + 4
    count = int.from_bytes(index[entries - 2 : entries])
    if len(index) < entries + 12 * count:
        raise _truncated(f"an index of {count} segments", end)
    sizes = (int.from_bytes(index[at : at + 4]) & 0x7FFFFFFF for at in range(entries, entries + 12 * count, 12))
    return int.from_bytes(index[first[0] : sum(first)]) + sum(sizes)


def _count_blocks(file: BinaryIO, size: int) -> Counter[int]:
    """Check that the elements of a file lie in it, and count the blocks of each track."""
    blocks: Counter[int] = Counter()
    parts = 0
    whole = False
    for kind, start, end in _elements(file, 0, size):
        if kind != _SEGMENT:
            if kind != _EBML and not whole:
                raise _truncated(f"no segment at byte {start}", size)
            if whole:  # what follows the segment is none of it
                break
            continue
        whole = True
        for inner, inner_start, inner_end in _elements(file, start, end, _TOP_LEVEL):
            parts += 1
            if inner != _CLUSTER:
                continue
            for part, part_start, part_end in _elements(file, inner_start, inner_end, _IN_CLUSTER):
                parts += 1
                if parts > _MAX_PARTS:
                    raise ImageError(f"corrupt: more than {_MAX_PARTS} elements; {DAMAGED}")
                if part == _SIMPLE_BLOCK:
                    blocks[_track_of(file, part_start, part_end)] += 1
                elif part == _BLOCK_GROUP:
                    for deep, deep_start, deep_end in _elements(file, part_start, part_end):
                        if deep == _BLOCK:
                            blocks[_track_of(file, deep_start, deep_end)] += 1
    if not whole:
        raise _truncated("no segment", size)
    return blocks


def _elements(file: BinaryIO, start: int, end: int, known: set[int] | None = None) -> Iterator[tuple[int, int, int]]:
    """Yield identifier, start and end of the content of each element of a part of a file."""
    while start < end:
        file.seek(start)
        header = file.read(12)
        kind, kind_bytes = _number(header, keep_marker=True)
        length, length_bytes = _number(header[kind_bytes:], keep_marker=False)
        content = start + kind_bytes + length_bytes
        if not kind_bytes or not length_bytes or (known is not None and kind not in known):
            raise _truncated(f"no element that belongs at byte {start}", end)
        if length == (1 << 7 * length_bytes) - 1:
            raise ImageError(f"Matroska that does not say where it ends, as browsers record it; {REMUX}")
        if content + length > end:
            raise _truncated(f"the element at byte {start} should end at byte {content + length}", end)
        yield kind, content, content + length
        start = content + length


def _number(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """Read a number of variable length (RFC 8794, 4), and return it with its length in bytes; 0 of them on damage."""
    if not data or not data[0]:
        return 0, 0
    length = 9 - data[0].bit_length()
    if length > len(data):
        return 0, 0
    number = int.from_bytes(data[:length])
    return number if keep_marker else number & (1 << 7 * length) - 1, length


def _track_of(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    header = file.read(min(end - start, 12))
    track, length = _number(header, keep_marker=False)
    if not length or len(header) < length + 3:
        raise _truncated(f"the block at byte {start} has no header", end)
    if header[length + 2] & _LACED:
        raise ImageError(f"several frames in a block of Matroska (lacing), which is not read; {REMUX}")
    return track
