"""Frames of a video at even distances, one after the other: it is decoded from its beginning to its end, never held."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from iqa_runtime.arguments import check_given, check_number, check_seconds
from iqa_runtime.contract import ColorSpace
from iqa_runtime.errors import FileError, ImageError, IqaError, UsageError, first_line, one_line
from iqa_runtime.images.foreign import Container
from iqa_runtime.images.header import DAMAGED
from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT
from iqa_runtime.video.color import FrameTags, reading_of, refuse_hdr
from iqa_runtime.video.containers import Structure, check_structure
from iqa_runtime.video.pixels import to_rgb

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

LEAST_EVERY = 0.001
"""Seconds: times are whole milliseconds."""

_MOST_PIXELS = 2**31 - 1  # that FFmpeg can be told
_LEAST_PYAV = 18  # before it the packets of a track could not be left out by a name
_CODECS = ("av1", "ffv1", "h264", "hevc", "mjpeg", "mpeg2video", "mpeg4", "prores", "vp8", "vp9")
_DOLBY_VISION = ("dav1", "dva1", "dvav", "dvh1", "dvhe")
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}


class ClipFrame(NamedTuple):
    """A frame of a video.

    Attributes
    ----------
    time
        When it is shown, in seconds after the first frame, in whole milliseconds.
    pixels
        uint8, H x W x 3, RGB, upright.
    color
        What its colours were taken for, and what was done, see `iqa_runtime.Score`.
    """

    time: float
    pixels: NDArray[np.uint8]
    color: str


def read_frames(
    source: str | os.PathLike[str] | bytes,
    *,
    every: float,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    color_space: ColorSpace = "sRGB",
    threads: int = 1,
) -> Iterator[ClipFrame]:
    """Read the first frame of a video, and the first at or after each multiple of `every` seconds, none twice.

    All frames between are decoded, too, so that damage anywhere is found: **a video is whole if the iterator comes to
    its end**. Frames given before an error are true frames. Memory is that of the decoder and of one frame.

    Parameters
    ----------
    source
        Path of an MP4, QuickTime, Matroska or WebM file, recognised by content, or the bytes of one. Nothing else is
        opened, whatever it refers to.
    every
        Seconds, 0.001 to a day.
    pixel_limit
        Largest width x height; checked before a frame is decoded.
    color_space
        ``sRGB``: colours are converted to it from what the stream says they are. ``stored``: R'G'B' stay as they are.
    threads
        Of the decoder; never changes a pixel.

    Yields
    ------
    ClipFrame
        In the order in which they are shown.

    Raises
    ------
    FileError
        If a path does not name a readable regular file.
    ImageError
        If the file is of another format, truncated, corrupt, in HDR, over the pixel limit, without one track of video,
        or of a kind for which there is no written rule; or if PyAV is missing.
    UsageError
        If an argument is out of range.
    """
    check_every(every)
    check_given("pixel_limit", pixel_limit)
    check_given("threads", threads)
    check_number("pixel_limit", pixel_limit)
    check_number("threads", threads)
    if not isinstance(source, (bytes, str, os.PathLike)):
        raise UsageError(f"a video of type {type(source).__name__}: give a path, or the bytes of a file")
    return _read(source, 1000 * Fraction(str(every)), pixel_limit, color_space, threads)


def check_every(every: float) -> None:
    """Refuse what is no distance between frames.

    Raises
    ------
    UsageError
        Naming the parameter.
    """
    check_given("every", every)
    check_seconds("every", every)
    if every < LEAST_EVERY:
        raise UsageError(f"``every={every}``: give at least {LEAST_EVERY} seconds")


def _read(
    source: str | os.PathLike[str] | bytes, step: Fraction, pixel_limit: int, color_space: ColorSpace, threads: int
) -> Iterator[ClipFrame]:
    name = "video bytes" if isinstance(source, bytes) else os.fspath(source)
    with ExitStack() as opened:
        try:
            file = BytesIO(source) if isinstance(source, bytes) else opened.enter_context(_open_file(name))
            structure = check_structure(file)
            clip = _Clip(file, structure, pixel_limit=pixel_limit, threads=threads)
            opened.callback(clip.close)
            due = Fraction(0)
            for milliseconds, frame in clip.frames():
                if milliseconds < due:
                    continue
                due = (milliseconds // step + 1) * step
                tags = FrameTags(
                    layout=frame.format.name,
                    primaries=int(frame.color_primaries),
                    transfer=int(frame.color_trc),
                    matrix=int(frame.colorspace),
                    color_range=int(frame.color_range),
                )
                reading = reading_of(tags, frame.height, frame.width, color_space)
                yield ClipFrame(milliseconds / 1000, to_rgb(frame, reading), reading.conversion.color)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from error.__cause__
        except IqaError:
            raise
        except MemoryError as error:
            raise ImageError(f"{name}: not enough memory to decode it; shrink it, or give fewer threads") from error
        except OSError as error:
            raise FileError(f"{name}: cannot be read ({error.strerror}); check the disk") from error
        except Exception as error:  # of what type it is depends on the damage
            raise ImageError(f"{name}: corrupt ({first_line(error)}); {DAMAGED}") from error


def _open_file(name: str) -> BinaryIO:
    if "://" in name:
        raise FileError(f"{name}: URLs are not fetched; download the file and give its path")
    path = Path(name)
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.open("rb")
    except OSError as error:
        raise FileError(f"{name}: cannot read the video ({error.strerror}); check the path") from error
    except ValueError as error:
        raise FileError(f"{name!r}: not a path ({error}); give the path of a video") from error
    raise FileError(f"{name}: not a regular file; give the path of a video")


class _Clip:
    """One track of video, open for decoding.

    Parameters
    ----------
    file
        Its bytes.
    structure
        What the container says.
    pixel_limit
        Most pixels a frame may have.
    threads
        Of the decoder.

    Raises
    ------
    ImageError
        As `read_frames`.
    """

    def __init__(self, file: BinaryIO, structure: Structure, *, pixel_limit: int, threads: int) -> None:
        self._structure, self._pixel_limit = structure, pixel_limit
        self._av = _pyav()
        limits = {"max_pixels": str(min(pixel_limit, _MOST_PIXELS))}
        demuxer = "mov" if structure.container is Container.MP4 else "matroska"
        try:
            self._container: InputContainer = self._av.open(
                file,
                "r",
                format=demuxer,
                options=limits | {"threads": "1", "codec_whitelist": ",".join((*_CODECS, "libdav1d"))},
                metadata_errors="backslashreplace",
                io_open=_open_nothing,
            )
        except self._av.FFmpegError as error:
            raise ImageError(f"corrupt: its header cannot be read ({_told(error)}); {DAMAGED}") from error
        try:
            self._stream = self._choose_stream()
            if structure.container is Container.MP4:
                self._check_index()
        except BaseException:
            self.close()
            raise
        context = self._stream.codec_context
        context.options = limits | _STRICT
        context.thread_count, context.thread_type = threads, "AUTO"

    def close(self) -> None:
        """Free the decoder."""
        self._container.close()

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield all frames with their times, in milliseconds after the first.

        Raises
        ------
        ImageError
            As `read_frames`; at the end, too, if there are fewer frames than the container says.
        """
        packets = expected = decoded = 0
        woven = False
        first = last = None
        at = "before its first frame"
        try:
            for packet in self._container.demux(self._stream):
                if packet.dts is not None or packet.size:
                    packets += 1
                    expected += self._is_shown(packet)
                    if packet.is_corrupt:
                        raise ImageError(f"truncated or corrupt {at}; {DAMAGED}")
                for frame in packet.decode():
                    decoded += 1
                    woven |= frame.interlaced_frame
                    if frame.is_corrupt:
                        raise ImageError(f"corrupt {at}; {DAMAGED}")
                    if frame.pts is None or (last is not None and frame.pts < last):
                        raise ImageError(f"a frame without a time, or with an earlier one, {at}; {DAMAGED}")
                    self._check_size(frame.width, frame.height)
                    first = frame.pts if first is None else first
                    last = frame.pts
                    milliseconds = round((frame.pts - first) * (self._stream.time_base or 0) * 1000)
                    at = f"after {milliseconds / 1000:.3f} s"
                    yield milliseconds, frame
        except self._av.FFmpegError as error:
            raise ImageError(f"corrupt {at} ({_told(error)}); {DAMAGED}") from error
        stated = len(self._stream.index_entries)
        if self._structure.blocks is not None:
            stated = self._structure.blocks[self._stream.id]
        # Two fields, each a packet, make a frame.
        if packets < stated or decoded * (2 if woven else 1) < expected or not decoded:
            raise ImageError(
                f"truncated or corrupt {at}: {decoded} frames of {packets} coded ones, and the file says {stated}; "
                f"{DAMAGED}"
            )

    def _choose_stream(self) -> VideoStream:
        from av.stream import Discard, Disposition

        pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
        streams = [stream for stream in self._container.streams.video if not stream.disposition & pictures]
        if not streams:
            raise ImageError("no track of video in it; give a video")
        if len(streams) > 1:
            chosen = [stream for stream in streams if stream.disposition & Disposition.default]
            if len(chosen) != 1:
                raise ImageError(f"{len(streams)} tracks of video; keep one: ffmpeg -i FILE -map 0:v:0 -c copy OUT.mkv")
            streams = chosen
        (stream,) = streams
        for other in self._container.streams:
            if other is not stream:
                other.discard = Discard.all
        context: Any = stream.codec_context  # None where FFmpeg knows no decoder, whatever the stubs say
        codec = None if context is None else context.codec.canonical_name
        if codec not in _CODECS:
            raise ImageError(
                f"video coded as {codec or 'something unknown'}, which is not read; code it again: "
                "ffmpeg -i FILE -c:v libx264 -crf 0 OUT.mkv"
            )
        if _tag_of(context) in _DOLBY_VISION:
            raise ImageError("Dolby Vision, whose colours are not read; convert it to SDR")
        if stream.metadata.get("alpha_mode", "0") != "0":
            raise ImageError("video with transparency; lay it over a background first")
        refuse_hdr(int(stream.color_trc))
        self._check_size(stream.width, stream.height)
        return stream

    def _check_index(self) -> None:
        """Check that all coded frames of an index lie in the file, whose position is FFmpeg's by now."""
        end = max((entry.pos + entry.size for entry in self._stream.index_entries), default=0)
        if end > self._structure.size:
            raise ImageError(f"truncated: its frames should end at byte {end} of {self._structure.size}; {DAMAGED}")

    def _is_shown(self, packet: Packet[VideoStream]) -> bool:
        """Whether a packet holds a frame to show: of VP8, one may be there for others to refer to (RFC 6386, 9.1)."""
        if packet.is_discard or not packet.size:
            return False
        return self._stream.codec_context.name != "vp8" or bool(memoryview(packet)[0] & 0x10)

    def _check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise ImageError(f"corrupt: a video of {width} x {height} pixels; {DAMAGED}")
        if width * height > self._pixel_limit:
            raise ImageError(
                f"{width} x {height} pixels, over the limit of {self._pixel_limit}; raise it (``pixel_limit``) or "
                "shrink the video"
            )


def _open_nothing(url: str, *_: object) -> NoReturn:
    raise ImageError(f"it refers to another file ({url}), which is not opened; put all into one file")


def _tag_of(context: Any) -> str:
    try:
        return str(context.codec_tag)
    except UnicodeDecodeError:
        return ""


def _told(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or one_line(error))


def _pyav() -> Any:
    """Return PyAV."""
    try:
        import av
    except ImportError as error:
        raise ImageError(f'a video, which needs PyAV ({error}): pip install "iqa-deploy[video]"') from error
    if int(av.__version__.partition(".")[0]) < _LEAST_PYAV:
        raise ImageError(
            f"a video, which needs PyAV {_LEAST_PYAV} or newer, not {av.__version__}: "
            'pip install --upgrade "iqa-deploy[video]"'
        )
    return av
