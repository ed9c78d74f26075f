"""Walk the markers of a JPEG file (ITU-T T.81, Annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from iqa_runtime.errors import ImageError
from iqa_runtime.image_formats.header import ADVICE, DAMAGED, ImageHeader
from iqa_runtime.image_formats.tiff import exif_orientation

_ENTROPY_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive with Huffman codes
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MAX_SCANS = 100  # a progressive file has about ten; each costs a pass over the whole image
_SOI, _EOI, _SOS, _DRI, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1, 0xEE


@dataclass(frozen=True, slots=True)
class _Frame:
    """A JPEG frame header; `sampling` maps a component to its horizontal and vertical sampling factor."""

    width: int
    height: int
    sampling: dict[int, tuple[int, int]]

    @staticmethod
    def parse(data: bytes, position: int) -> _Frame:
        depth, height, width, count = struct.unpack_from(">BHHB", data, position)
        if depth != 8:
            raise ImageError(f"a JPEG of {depth} bits per sample, only 8 are read; {ADVICE}")
        if count not in (1, 3, 4):
            raise ImageError(f"a JPEG of {count} components, only 1, 3 and 4 are read; {ADVICE}")
        components = [struct.unpack_from("BB", data, position + 6 + 3 * index) for index in range(count)]
        sampling = {component: (factors >> 4, factors & 15) for component, factors in components}
        if len(sampling) != count or not all(1 <= factor <= 4 for pair in sampling.values() for factor in pair):
            raise ImageError(f"corrupt JPEG: impossible components in its frame header; {DAMAGED}")
        return _Frame(width, height, sampling)

    def coded_units(self, components: list[int]) -> int:
        """Count the units of one scan (MCUs) that a restart interval is measured in."""
        h_max = max(h for h, _ in self.sampling.values())
        v_max = max(v for _, v in self.sampling.values())
        h, v = self.sampling[components[0]] if len(components) == 1 else (1, 1)
        return -(-self.width * h // (8 * h_max)) * -(-self.height * v // (8 * v_max))


def inspect_jpeg(data: bytes) -> ImageHeader:
    """Walk the markers up to the end of the image; an EOI inside a segment (an embedded thumbnail) is never seen."""
    frame: _Frame | None = None
    scanned: set[int] = set()
    orientation, exif_seen, adobe, interval, scans, position = 1, False, False, 0, 0, 2
    while True:
        start = position
        while data[position : position + 1] == b"\xff":
            position += 1
        if position >= len(data):
            raise ImageError(f"truncated JPEG: the file ends after {len(data)} bytes without an end marker; {DAMAGED}")
        marker = data[position]
        if position == start or marker in (0x00, 0x01, _SOI, *range(0xD0, 0xD8)) or (marker in _FRAMES and frame):
            raise ImageError(f"corrupt JPEG: no valid marker at byte {start}; {DAMAGED}")
        position += 1
        if marker == _EOI:
            break
        (length,) = struct.unpack_from(">H", data, position)
        segment, position = position + 2, position + max(length, 2)
        if position > len(data):
            raise ImageError(f"truncated JPEG: the file ends inside the segment at byte {start}; {DAMAGED}")
        if marker in _OTHER_FRAMES:
            raise ImageError(f"a lossless, hierarchical or arithmetic-coded JPEG (SOF{marker - 0xC0}); {ADVICE}")
        if marker in _FRAMES:
            frame = _Frame.parse(data, segment)
        elif marker == _DRI:
            (interval,) = struct.unpack_from(">H", data, segment)
        elif marker == _APP1 and not exif_seen and data.startswith(b"Exif\x00", segment):
            orientation, exif_seen = exif_orientation(data[segment + 6 : position]), True
        elif marker == _APP14 and data.startswith(b"Adobe", segment):
            adobe = True
        elif marker == _SOS:
            if frame is None:
                raise ImageError(f"corrupt JPEG: a scan before the frame header, at byte {start}; {DAMAGED}")
            position = _check_scan(data, segment, position, frame, interval, scanned)
            scans += 1
            if scans > _MAX_SCANS:
                raise ImageError(f"a JPEG of more than {_MAX_SCANS} scans; {ADVICE}")
    if frame is None or scanned != set(frame.sampling):
        raise ImageError(f"truncated JPEG: its end marker comes before the whole image was coded; {DAMAGED}")
    if len(frame.sampling) == 4 and not adobe:
        raise ImageError(
            "a four-channel JPEG without the Adobe marker that tells inks from inverted inks; save it as RGB"
        )
    return ImageHeader(format="JPEG", width=frame.width, height=frame.height, orientation=orientation)


def _check_scan(data: bytes, segment: int, position: int, frame: _Frame, interval: int, scanned: set[int]) -> int:
    """Check one scan, add the components it starts to `scanned` and return the position of the marker after it."""
    (count,) = struct.unpack_from("B", data, segment)
    components = list(struct.unpack_from("Bx" * count, data, segment + 1))
    if not components or not set(components) <= set(frame.sampling):
        raise ImageError(f"corrupt JPEG: the scan at byte {segment} is of unknown components; {DAMAGED}")
    end = _ENTROPY_END.search(data, position)
    if end is None:
        raise ImageError(f"truncated JPEG: the file ends inside the image data, after {len(data)} bytes; {DAMAGED}")
    if interval:
        restarts = [marker[1] - 0xD0 for marker in _RESTART.findall(data, position, end.start())]
        expected = -(-frame.coded_units(components) // interval) - 1
        if len(restarts) < expected or any(number != index % 8 for index, number in enumerate(restarts)):
            raise ImageError(f"corrupt JPEG: image data is missing (restart markers out of sequence); {DAMAGED}")
    (first_coefficient,) = struct.unpack_from("B", data, segment + 1 + 2 * count)
    if first_coefficient == 0:
        scanned.update(components)
    return end.start()
