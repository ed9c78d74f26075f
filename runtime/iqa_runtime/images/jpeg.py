"""Walk the markers of a JPEG file (ITU-T T.81, Annexes B and G), and decode it strictly."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED, ImageHeader
from iqa_runtime.images.tiff_directory import exif_orientation

_ENTROPY_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_PROGRESSIVE = 0xC2
_FRAMES = {0xC0, 0xC1, _PROGRESSIVE}  # baseline, extended and progressive with Huffman codes
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MAX_SCANS = 100  # a progressive file has about ten; each costs a pass over the whole image
_SOI, _EOI, _SOS, _DRI, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1, 0xEE
_COEFFICIENTS = 64  # of a block: one DC, then the AC
_NOT_CODED = 255


@dataclass(frozen=True, slots=True)
class _Frame:
    """A JPEG frame header and how far its image has been coded.

    `sampling` maps a component to its horizontal and vertical sampling factor; `low_bits`, to the lowest bit that was
    coded of each of its coefficients.
    """

    width: int
    height: int
    progressive: bool
    sampling: dict[int, tuple[int, int]]
    low_bits: dict[int, bytearray] = field(default_factory=dict)

    @staticmethod
    def parse(data: bytes, position: int, *, progressive: bool) -> _Frame:
        depth, height, width, count = struct.unpack_from(">BHHB", data, position)
        if depth != 8:
            raise ImageError(f"a JPEG of {depth} bits per sample, only 8 are read; {ADVICE}")
        if count not in (1, 3, 4):
            raise ImageError(f"a JPEG of {count} components, only 1, 3 and 4 are read; {ADVICE}")
        components = [struct.unpack_from("BB", data, position + 6 + 3 * index) for index in range(count)]
        sampling = {component: (factors >> 4, factors & 15) for component, factors in components}
        if len(sampling) != count or not all(1 <= factor <= 4 for pair in sampling.values() for factor in pair):
            raise ImageError(f"corrupt JPEG: impossible components in its frame header; {DAMAGED}")
        low_bits = {component: bytearray([_NOT_CODED] * _COEFFICIENTS) for component in sampling}
        return _Frame(width, height, progressive, sampling, low_bits)

    @property
    def is_complete(self) -> bool:
        """Whether every coefficient of every component was coded, and refined to its last bit."""
        return not any(map(any, self.low_bits.values()))

    def add_scan(self, components: list[int], first: int, last: int, bits: int) -> None:
        """Note what a scan codes; one of a sequential file codes all, whatever its fields say."""
        if not self.progressive:
            first, last, bits = 0, _COEFFICIENTS - 1, 0
        before, low_bit = bits >> 4 or _NOT_CODED, bits & 15
        for component in components:
            reached = self.low_bits[component]
            for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                # One more bit of what has not been coded down to it is of no use.
                if reached[coefficient] == before:
                    reached[coefficient] = low_bit

    def coded_units(self, components: list[int]) -> int:
        """Count the units of one scan (MCUs) that a restart interval is measured in."""
        h_max = max(h for h, _ in self.sampling.values())
        v_max = max(v for _, v in self.sampling.values())
        h, v = self.sampling[components[0]] if len(components) == 1 else (1, 1)
        return -(-self.width * h // (8 * h_max)) * -(-self.height * v // (8 * v_max))


@dataclass(slots=True)
class _Markers:
    """What the segments before and between the scans say."""

    frame: _Frame | None = None
    orientation: int = 1
    exif_seen: bool = False
    adobe: bool = False
    interval: int = 0


def inspect_jpeg(data: bytes) -> ImageHeader:
    """Walk the markers up to the end of the image; an EOI inside a segment (an embedded thumbnail) is never seen."""
    frame, markers = _walk(data)
    if len(frame.sampling) == 4 and not markers.adobe:
        raise ImageError(
            "a four-channel JPEG without the Adobe marker that tells inks from inverted inks; save it as RGB"
        )
    return ImageHeader(format="JPEG", width=frame.width, height=frame.height, orientation=markers.orientation)


def check_jpeg_block(data: bytes, width: int, height: int) -> None:
    """Check that a JPEG strip or tile of another format is whole and holds at least so many pixels."""
    try:
        frame, _ = _walk(data)
    except struct.error:
        raise ImageError(f"truncated JPEG: it ends inside a header; {DAMAGED}") from None
    if frame.width < width or frame.height < height:
        raise ImageError(f"corrupt JPEG: {frame.width} x {frame.height} of {width} x {height} pixels; {DAMAGED}")
    decode_jpeg(data)


def decode_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """Decode strictly, so that damaged coded data is an error: OpenCV says so on stderr alone and returns the picture.

    Returns
    -------
    numpy.ndarray or None
        uint8, H x W x 3, RGB; None for CMYK, which is checked alike but left to OpenCV to convert.
    """
    import simplejpeg

    try:
        *_, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data, "CMYK", strict=True)
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        raise ImageError(f"corrupt JPEG ({error}); get an undamaged copy") from error
    return pixels


def _walk(data: bytes) -> tuple[_Frame, _Markers]:
    """Walk from marker to marker, through the coded data of every scan, and check that nothing is missing."""
    markers, scans, position = _Markers(), 0, 2
    while True:
        start = position
        while data[position : position + 1] == b"\xff":
            position += 1
        if position >= len(data):
            raise ImageError(f"truncated JPEG: the file ends after {len(data)} bytes without an end marker; {DAMAGED}")
        marker = data[position]
        if (
            position == start
            or marker in (0x00, 0x01, _SOI, *range(0xD0, 0xD8))
            or (marker in _FRAMES and markers.frame)
        ):
            raise ImageError(f"corrupt JPEG: no valid marker at byte {start}; {DAMAGED}")
        position += 1
        if marker == _EOI:
            break
        (length,) = struct.unpack_from(">H", data, position)
        segment, position = position + 2, position + max(length, 2)
        if position > len(data):
            raise ImageError(f"truncated JPEG: the file ends inside the segment at byte {start}; {DAMAGED}")
        if marker == _SOS:
            if markers.frame is None:
                raise ImageError(f"corrupt JPEG: a scan before the frame header, at byte {start}; {DAMAGED}")
            position = _check_scan(data, segment, position, markers.frame, markers.interval)
            scans += 1
            if scans > _MAX_SCANS:
                raise ImageError(f"a JPEG of more than {_MAX_SCANS} scans; {ADVICE}")
        else:
            _read_segment(data, marker, segment, position, markers)
    if markers.frame is None or not markers.frame.is_complete:
        raise ImageError(f"truncated JPEG: its end marker comes before the whole image was coded; {DAMAGED}")
    return markers.frame, markers


def _read_segment(data: bytes, marker: int, segment: int, end: int, markers: _Markers) -> None:
    """Note what a segment says; most say nothing of interest here."""
    if marker in _OTHER_FRAMES:
        raise ImageError(f"a lossless, hierarchical or arithmetic-coded JPEG (SOF{marker - 0xC0}); {ADVICE}")
    if marker in _FRAMES:
        markers.frame = _Frame.parse(data, segment, progressive=marker == _PROGRESSIVE)
    elif marker == _DRI:
        (markers.interval,) = struct.unpack_from(">H", data, segment)
    elif marker == _APP1 and not markers.exif_seen and data.startswith(b"Exif\x00", segment):
        markers.orientation, markers.exif_seen = exif_orientation(data[segment + 6 : end]), True
    elif marker == _APP14 and data.startswith(b"Adobe", segment):
        markers.adobe = True


def _check_scan(data: bytes, segment: int, position: int, frame: _Frame, interval: int) -> int:
    """Check one scan, add what it codes to the frame and return the position of the marker after it."""
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
    first, last, bits = struct.unpack_from("BBB", data, segment + 1 + 2 * count)
    frame.add_scan(components, first, last, bits)
    return end.start()
