"""Walk the markers of a JPEG file from its start to its end (ITU-T T.81, Annex B) and keep what decides its pixels.

Cameras write much that means nothing for the picture: odd versions, empty profiles, filling between segments. A decoder
that reports damage reports these alike, and only the first of all. So it is given the parts that matter alone, under
application markers as the standards have them; what it then complains about is the coded image.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace

from iqa_runtime.errors import ImageError
from iqa_runtime.images.header import ADVICE, DAMAGED

_MARKER = re.compile(rb"\xff([^\xff])", re.DOTALL)  # without its filling: a search for that takes ages in a long one
_FILLED_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_ENTROPY_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_PROGRESSIVE = 0xC2
_FRAMES = {0xC0, 0xC1, _PROGRESSIVE}  # baseline, extended and progressive with Huffman codes
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_MAX_TABLES = 32  # segments for all strips of a TIFF file; one for each table of each kind would be 12
_MAX_SCANS = 100  # a progressive file has about ten; each costs a pass over the whole image
EOI, SOS, DQT, DHT, DRI, APP0, APP14 = 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xE0, 0xEE
_APP1, _APP2 = 0xE1, 0xE2
_ICC = b"ICC_PROFILE\0"
_IGNORED = {0xDC, *range(0xE0, 0xF0), 0xFE}  # DNL, applications, comments; no other marker has a meaning
_MARKERS = {EOI, SOS, DQT, DHT, DRI} | _FRAMES | _OTHER_FRAMES | _IGNORED
_ALONE = {0x00, 0x01, *range(0xD0, 0xD8)}  # TEM and restarts have no length; between segments they are filling
_JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"
COEFFICIENTS = 64  # of a block: one DC, then the AC
_NOT_CODED = 255
_FIRST_SELECTOR = 8  # where a frame header names the first component's quantisation table


@dataclass(frozen=True, slots=True)
class Frame:
    """A JPEG frame header and how far its image has been coded.

    `sampling` maps a component to its horizontal and vertical sampling factor; `low_bits`, to the lowest bit that was
    coded of each of its coefficients. Components go by their index; `identifiers` are what scans call them.
    """

    width: int
    height: int
    progressive: bool
    identifiers: tuple[int, ...]
    sampling: dict[int, tuple[int, int]]
    low_bits: dict[int, bytearray] = field(default_factory=dict)

    @staticmethod
    def parse(data: bytes, position: int, *, progressive: bool) -> Frame:
        """Read the frame header at `position` (B.2.2)."""
        depth, height, width, count = struct.unpack_from(">BHHB", data, position)
        if depth != 8:
            raise ImageError(f"a JPEG of {depth} bits per sample, only 8 are read; {ADVICE}")
        if count not in (1, 3, 4):
            raise ImageError(f"a JPEG of {count} components, only 1, 3 and 4 are read; {ADVICE}")
        components = [struct.unpack_from("BB", data, position + 6 + 3 * index) for index in range(count)]
        sampling = {index: (factors >> 4, factors & 15) for index, (_, factors) in enumerate(components)}
        if not all(1 <= factor <= 4 for pair in sampling.values() for factor in pair):
            raise ImageError(f"corrupt JPEG: impossible components in its frame header; {DAMAGED}")
        low_bits = {component: bytearray([_NOT_CODED] * COEFFICIENTS) for component in sampling}
        identifiers = tuple(identifier for identifier, _ in components)
        return Frame(width, height, progressive, identifiers, sampling, low_bits)

    def find(self, identifiers: tuple[int, ...]) -> list[int]:
        """Return the components of a scan; where several go by one identifier, as libjpeg-turbo takes them apart.

        No component comes before its place in the scan, whose components are in the order of the frame (B.2.3).

        Raises
        ------
        ValueError
            If there is no such component.
        """
        return [self.identifiers.index(identifier, place) for place, identifier in enumerate(identifiers)]

    @property
    def is_complete(self) -> bool:
        """Whether every coefficient of every component was coded, and refined to its last bit."""
        return not any(map(any, self.low_bits.values()))

    def add_scan(self, components: list[int], first: int, last: int, bits: int) -> None:
        """Note what a scan codes."""
        before, low_bit = bits >> 4 or _NOT_CODED, bits & 15
        for component in components:
            reached = self.low_bits[component]
            for coefficient in range(first, min(last, COEFFICIENTS - 1) + 1):
                # One more bit of what has not been coded down to it is of no use.
                if reached[coefficient] == before:
                    reached[coefficient] = low_bit

    def units(self, components: list[int]) -> int:
        """Count the units of one scan (MCUs) that a restart interval is measured in (A.2)."""
        h_max = max(h for h, _ in self.sampling.values())
        v_max = max(v for _, v in self.sampling.values())
        h, v = self.sampling[components[0]] if len(components) == 1 else (1, 1)
        return -(-self.width * h // (8 * h_max)) * -(-self.height * v // (8 * v_max))


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of the file: a marker, what follows its length and, of a scan, the coded data."""

    marker: int
    body: bytes
    coded: bytes = b""
    components: tuple[int, ...] = ()
    interval: int = 0


@dataclass(slots=True, kw_only=True)
class JpegFile:
    """What a JPEG file holds, as far as it decides the pixels.

    Attributes
    ----------
    frame
        None before its header is met.
    segments
        Tables, the frame header and scans, in the file's order.
    exif
        The EXIF blocks: one that is longer than a segment goes on in the next.
    jfif
        Whether there is a JFIF marker, which says YCbCr.
    adobe_transform
        What the Adobe marker says of the colours: 0 as they are, 1 YCbCr, 2 YCCK; None without one.
    profile
        The parts of the ICC profile: number, how many there are, and bytes.
    """

    frame: Frame | None = None
    segments: list[Segment] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    jfif: bool = False
    adobe_transform: int | None = None
    profile: list[tuple[int, int, bytes]] = field(default_factory=list)
    interval: int = 0
    scans: int = 0


def read_markers(data: bytes, tables: JpegFile | None = None) -> tuple[JpegFile, Frame]:
    """Walk from marker to marker, through the coded data of every scan, and check that nothing is missing.

    An EOI inside a segment (an embedded thumbnail) is never seen.

    Parameters
    ----------
    data
        The whole file.
    tables
        What goes before its first segment.

    Raises
    ------
    ImageError
        If the file ends early, is corrupt or is of a kind that is not read.
    struct.error
        If a segment ends inside its fields.
    """
    file = JpegFile() if tables is None else replace(tables, segments=tables.segments.copy())
    _read_segments(data, file)
    if file.frame is None or not file.frame.is_complete:
        raise ImageError(f"truncated JPEG: its end marker comes before the whole image was coded; {DAMAGED}")
    return file, file.frame


def read_frame(data: bytes) -> Frame | None:
    """Walk up to the first scan alone, and return the frame header, which comes before it.

    Raises
    ------
    ImageError, struct.error
        As `read_markers`.
    """
    file = JpegFile()
    _read_segments(data, file, with_scans=False)
    return file.frame


def read_tables(data: bytes) -> JpegFile:
    """Read tables that stand alone (TIFF tag 347); their start and end markers may be missing.

    Raises
    ------
    ImageError
        If they end early or are corrupt, there is more than tables, or more of them than an image can use.
    """
    file = JpegFile()
    try:
        _read_segments(b"\xff\xd8" + data.removeprefix(b"\xff\xd8") + b"\xff\xd9", file)
    except struct.error:
        raise ImageError(f"truncated JPEG: its tables end inside a segment; {DAMAGED}") from None
    if file.frame is not None or len(file.segments) > _MAX_TABLES:
        raise ImageError(f"corrupt JPEG: more than tables before its image; {DAMAGED}")
    return file


def _read_segments(data: bytes, file: JpegFile, *, with_scans: bool = True) -> None:
    """Add the segments up to the end marker to a file, or up to the first scan."""
    position = 2
    while True:
        start, marker, position = _next_marker(data, position, file)
        if marker == EOI or (marker == SOS and not with_scans):
            return
        (length,) = struct.unpack_from(">H", data, position)
        body, position = position + 2, position + max(length, 2)
        if position > len(data):
            raise ImageError(f"truncated JPEG: the file ends inside the segment at byte {start}; {DAMAGED}")
        if marker == SOS:
            if file.frame is None:
                raise ImageError(f"corrupt JPEG: a scan before the frame header, at byte {start}; {DAMAGED}")
            position = _read_scan(data, body, position, file, file.frame)
        else:
            _read_segment(data, marker, body, position, file)


def first_table(file: JpegFile) -> tuple[int, ...] | None:
    """Return the quantisation table of the first component, 64 steps in zigzag order (B.2.4.1).

    None where it is not there before the first scan of this component, or cut short.
    """
    tables: dict[int, tuple[int, ...]] = {}
    selector = None
    for segment in file.segments:
        if segment.marker == DQT:
            position = 0
            while position < len(segment.body):
                wide, number = segment.body[position] >> 4 != 0, segment.body[position] & 15
                end = position + 1 + COEFFICIENTS * (1 + wide)
                steps = segment.body[position + 1 : end]
                if len(steps) == COEFFICIENTS * (1 + wide):
                    tables[number] = struct.unpack(f">{COEFFICIENTS}{'H' if wide else 'B'}", steps)
                position = end
        elif segment.marker in _FRAMES and len(segment.body) > _FIRST_SELECTOR:
            selector = segment.body[_FIRST_SELECTOR]
        elif segment.marker == SOS and 0 in segment.components:
            break
    return None if selector is None else tables.get(selector)


def with_standard_markers(file: JpegFile, segments: list[Segment] | None = None) -> bytes:
    """Write the file anew: the segments that decide its pixels, colours told as the standards do."""
    parts = [b"\xff\xd8"]
    if file.jfif:
        parts += [_header(APP0, _JFIF), _JFIF]
    if file.adobe_transform is not None:
        adobe = b"Adobe" + struct.pack(">HHHB", 100, 0, 0, file.adobe_transform)
        parts += [_header(APP14, adobe), adobe]
    for segment in file.segments if segments is None else segments:
        parts += [_header(segment.marker, segment.body), segment.body, segment.coded]
    return b"".join([*parts, b"\xff\xd9"])


def _header(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2)


def _next_marker(data: bytes, position: int, file: JpegFile) -> tuple[int, int, int]:
    """Return where the next marker starts, which it is, and the position after it.

    Before the first scan, what lies between two segments is passed over: some cameras fill them up. Later it could be
    what is left of coded data.
    """
    found = _FILLED_MARKER.match(data, position) if file.scans else _MARKER.search(data, position)
    while found and not file.scans and found[1][0] in _ALONE:
        found = _MARKER.search(data, found.end())
    if found is None:
        if file.scans and data[position:].strip(b"\xff"):
            raise ImageError(f"corrupt JPEG: no valid marker at byte {position}; {DAMAGED}")
        raise ImageError(f"truncated JPEG: the file ends after {len(data)} bytes without an end marker; {DAMAGED}")
    marker = found[1][0]
    if marker not in _MARKERS or (marker in _FRAMES and file.frame):
        raise ImageError(f"corrupt JPEG: no valid marker at byte {position}; {DAMAGED}")
    return found.start(), marker, found.end()


def _read_segment(data: bytes, marker: int, start: int, end: int, file: JpegFile) -> None:
    """Note what a segment says; most say nothing of interest here."""
    if marker in _OTHER_FRAMES:
        raise ImageError(f"a lossless, hierarchical or arithmetic-coded JPEG (SOF{marker - 0xC0}); {ADVICE}")
    if marker in _FRAMES:
        file.frame = Frame.parse(data, start, progressive=marker == _PROGRESSIVE)
        count = len(file.frame.sampling)
        if file.adobe_transform is not None:
            file.adobe_transform = _known_transform(file.adobe_transform, count)
    elif marker == DRI:
        (file.interval,) = struct.unpack_from(">H", data, start)
    elif marker == _APP1 and not file.scans and data.startswith(b"Exif\x00", start):
        file.exif.append(data[start + 6 : end])
    elif marker == _APP2 and not file.scans and data.startswith(_ICC, start):
        number, count = data[start + 12 : end][:2].ljust(2, b"\0")
        file.profile.append((number, count, data[start + 14 : end]))
    elif marker == APP0 and not file.scans and data.startswith(b"JFIF\x00", start) and end - start >= len(_JFIF):
        file.jfif = True
    elif marker == APP14 and not file.scans and data.startswith(b"Adobe", start) and end - start >= 12:
        transform = data[start + 11]
        file.adobe_transform = _known_transform(transform, len(file.frame.sampling)) if file.frame else transform
    if marker not in _IGNORED:
        file.segments.append(Segment(marker, data[start:end]))


def _known_transform(transform: int, components: int) -> int:
    """Return what decoders take an Adobe transform for: anything unknown is the luminance form of so many channels."""
    return 0 if transform == 0 else {3: 1, 4: 2}.get(components, 0)


def _read_scan(data: bytes, body: int, position: int, file: JpegFile, frame: Frame) -> int:
    """Check one scan, add what it codes to the frame and return the position of the marker after it."""
    (count,) = struct.unpack_from("B", data, body)
    try:
        components = frame.find(struct.unpack_from("Bx" * count, data, body + 1))
    except ValueError:
        components = []
    if not components or len(set(components)) < count:
        raise ImageError(f"corrupt JPEG: the scan at byte {body} is of unknown components; {DAMAGED}")
    found = _ENTROPY_END.search(data, position)
    if found is None:
        raise ImageError(f"truncated JPEG: the file ends inside the image data, after {len(data)} bytes; {DAMAGED}")
    end = found.start()
    if file.interval:
        restarts = [marker[1] - 0xD0 for marker in _RESTART.findall(data, position, end)]
        expected = -(-frame.units(components) // file.interval) - 1
        if len(restarts) < expected or any(number != index % 8 for index, number in enumerate(restarts)):
            raise ImageError(f"corrupt JPEG: image data is missing (restart markers out of sequence); {DAMAGED}")
    # A block of a sequential file takes two codes of a bit at the least.
    blocks = sum(h * v for h, v in map(frame.sampling.__getitem__, components)) if count > 1 else 1
    if not frame.progressive and 8 * (end - position) < 2 * blocks * frame.units(components):
        raise ImageError(f"corrupt JPEG: image data is missing ({end - position} bytes of it are there); {DAMAGED}")
    fields = struct.unpack_from("BBB", data, body + 1 + 2 * count)
    # A scan of a sequential file codes all coefficients, whatever its fields say: some cameras leave them zero.
    first, last, bits = fields if frame.progressive else (0, COEFFICIENTS - 1, 0)
    frame.add_scan(components, first, last, bits)
    head = data[body : body + 1 + 2 * count] + bytes((first, last, bits))
    file.segments.append(Segment(SOS, head, data[position:end], tuple(components), file.interval))
    file.scans += 1
    if file.scans > _MAX_SCANS:
        raise ImageError(f"a JPEG of more than {_MAX_SCANS} scans; {ADVICE}")
    return end
