"""Frames of videos: which are taken, and that nothing damaged comes through."""

import itertools
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from iqa_runtime.errors import FileError, ImageError, UsageError
from iqa_runtime.video import ClipFrame, read_frames
from video_files import gray_planes, moving_planes, set_matrix, video_frame, write_video

LOSS = 3
"""Levels that a flat gray may be off after lossy coding at the codecs' own quality: seen, at most 1."""

CODECS = {
    "clip.mp4": "libx264",
    "clip.mov": "libx264",
    "hevc.mp4": "libx265",
    "vp8.webm": "libvpx",
    "vp9.webm": "libvpx-vp9",
    "av1.webm": "libsvtav1",
    "av1.mp4": "libsvtav1",
    "mpeg4.mp4": "mpeg4",
    "ffv1.mkv": "ffv1",
}


def times_of(path: Path, every: float) -> list[float]:
    return [frame.time for frame in read_frames(path, every=every)]


def brightness(luma: Any) -> Any:
    """Of a gray in narrow range: 16 is black, 235 white."""
    return 255 * (luma - 16) / 219


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_gives_its_frames(tmp_path: Path, name: str) -> None:
    lumas = [40 + 4 * k for k in range(26)]
    write_video(tmp_path / name, [gray_planes(luma, 96, 128) for luma in lumas], codec=CODECS[name])
    frames = list(read_frames(tmp_path / name, every=0.4))
    assert [frame.time for frame in frames] == [0.0, 0.4, 0.8]
    for frame in frames:
        assert (frame.pixels.shape, frame.pixels.dtype, frame.color) == ((96, 128, 3), np.uint8, "sRGB")
        expected = brightness(lumas[round(25 * frame.time)])
        assert np.abs(frame.pixels - expected).max() <= LOSS


def test_bytes_give_what_the_file_gives(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_planes(5))
    of_file, of_bytes = (list(read_frames(source, every=0.04)) for source in (path, path.read_bytes()))
    assert len(of_file) == 5
    for one, other in zip(of_file, of_bytes, strict=True):
        assert (one.time, one.pixels.tobytes()) == (other.time, other.pixels.tobytes())


def test_a_file_larger_than_what_is_read_at_once_comes_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    chroma = np.full((48, 64), 128, np.uint8)
    lumas = random.integers(16, 236, (60, 96, 128), dtype=np.uint8)
    path = write_video(tmp_path / "clip.mp4", [[luma, chroma, chroma] for luma in lumas])
    assert path.stat().st_size > 10 * 32768
    frames = list(read_frames(path, every=0.04))
    assert len(frames) == 60
    seen = np.stack([frame.pixels for frame in frames]).astype(float)
    assert np.abs(seen - brightness(lumas[..., None].astype(float))).max() <= 0.501  # rounded to nearest


def test_names_in_other_encodings_do_no_harm(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_planes(2))
    data = path.read_bytes()
    for name in (b"VideoHandler", b"Lavf"):
        assert name in data
        assert len(list(read_frames(data.replace(name, b"\xe9" * len(name)), every=0.04))) == 2


def test_the_first_frame_at_or_after_each_multiple_is_taken_once(tmp_path: Path) -> None:
    times = [0, 400, 900, 1700, 3000, 3020, 3990, 4010, 9000]
    path = write_video(tmp_path / "vfr.mkv", [gray_planes(100)] * len(times), codec="ffv1", times=times)
    assert times_of(path, 1.0) == [0.0, 1.7, 3.0, 4.01, 9.0]
    assert times_of(path, 0.001) == [time / 1000 for time in times]
    assert times_of(path, 100.0) == [0.0]


def test_years_between_frames_cost_no_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "years.mkv", [gray_planes(100)] * 2, codec="ffv1", times=[0, 10**11])
    assert times_of(path, 0.001) == [0.0, 1e8]


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    times = [5000, 5500, 6000, 6500]
    path = write_video(tmp_path / "late.mkv", [gray_planes(100)] * 4, codec="ffv1", times=times)
    assert times_of(path, 1.0) == [0.0, 1.0]


@pytest.mark.parametrize("every", [0, -1.0, float("nan"), float("inf"), 0.0001, True, "1", None, 1e9])
def test_a_distance_out_of_range_is_refused_at_once(every: Any) -> None:
    with pytest.raises(UsageError, match="``every"):
        read_frames("none.mp4", every=every)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "vp9.webm", "av1.webm"])
def test_threads_change_no_pixel(tmp_path: Path, name: str) -> None:
    codec = {"h264.mp4": "libx264", "hevc.mp4": "libx265", "vp9.webm": "libvpx-vp9", "av1.webm": "libsvtav1"}[name]
    path = write_video(tmp_path / name, moving_planes(20, 144, 160), codec=codec, options={})
    alone = [frame.pixels.tobytes() for frame in read_frames(path, every=0.04)]
    assert len(alone) == 20
    for threads in (2, 5):
        assert [frame.pixels.tobytes() for frame in read_frames(path, every=0.04, threads=threads)] == alone


@pytest.mark.parametrize(
    "matrix", list(itertools.product((-1, 1), (-1, 1), ("straight", "across"))), ids=lambda case: str(case)
)
def test_frames_are_shown_as_the_track_says(tmp_path: Path, matrix: tuple[int, int, str]) -> None:
    first, second, kind = matrix
    a, b, c, d = (first, 0, 0, second) if kind == "straight" else (0, first, second, 0)
    path = write_video(tmp_path / "clip.mp4", moving_planes(2, 48, 80))
    (stored, *_) = read_frames(path, every=1.0)
    set_matrix(path, a, b, c, d)
    (shown, *_) = read_frames(path, every=1.0)
    y, x = np.mgrid[:48, :80]
    across, down = a * x + c * y, b * x + d * y
    expected = np.empty((int(np.ptp(down)) + 1, int(np.ptp(across)) + 1, 3), np.uint8)
    expected[down - down.min(), across - across.min()] = stored.pixels
    assert np.array_equal(shown.pixels, expected)


def test_other_angles_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_planes(2))
    set_matrix(path, 1, 1, -1, 1)
    with pytest.raises(ImageError, match="only quarter turns"):
        list(read_frames(path, every=1.0))


FORMS: dict[str, dict[str, Any]] = {
    "moov_last.mp4": {},
    "moov_first.mp4": {"movflags": "faststart"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov", "options": {"g": "5"}},
    "one_index.mp4": {
        "movflags": "frag_keyframe+empty_moov+global_sidx+skip_trailer+default_base_moof",
        "options": {"g": "5"},
    },
    "clip.mov": {},
    "clip.mkv": {},
    "clip.webm": {"codec": "libvpx-vp9", "options": {}},
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_cut_anywhere_never_comes_to_its_end(tmp_path: Path, name: str) -> None:
    data = write_video(tmp_path / name, moving_planes(20), **FORMS[name]).read_bytes()
    assert len(list(read_frames(data, every=0.1))) == 8
    # Between two parts of a container, too: there it looks whole but for what it states.
    borders = [at for kind in (b"moof", b"mdat", b"moov", b"mfra", b"\x1f\x43\xb6\x75") for at in _places(data, kind)]
    cuts = {round(k * (len(data) - 1) / 20) for k in range(21)} | {border - 4 for border in borders} | set(borders)
    for cut in sorted(cut for cut in cuts if 0 <= cut < len(data)):
        with pytest.raises(ImageError, match="video bytes: "):
            list(read_frames(data[:cut], every=0.1))


def _places(data: bytes, kind: bytes) -> list[int]:
    places, at = [], data.find(kind)
    while at >= 0:
        places.append(at)
        at = data.find(kind, at + 1)
    return places


def test_a_cut_whose_lengths_were_mended_is_found_by_the_index(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "a.mp4", moving_planes(20), movflags="faststart").read_bytes())
    at = data.index(b"mdat") - 4
    cut = at + (len(data) - at) // 2
    data[at : at + 4] = (cut - at).to_bytes(4)
    with pytest.raises(ImageError, match="truncated: its frames should end at byte"):
        list(read_frames(bytes(data[:cut]), every=0.1))


def test_damage_within_is_found_and_frames_before_it_stand(tmp_path: Path) -> None:
    clean = write_video(tmp_path / "a.mp4", moving_planes(40), options={"g": "10"}, movflags="faststart").read_bytes()
    whole = {frame.time: frame.pixels.tobytes() for frame in read_frames(clean, every=0.2)}
    damaged = bytearray(clean)
    start = clean.index(b"mdat")
    at = start + 3 * (len(clean) - start) // 4
    damaged[at : at + 200] = bytes(200)
    seen: list[ClipFrame] = []
    with pytest.raises(ImageError, match=r"video bytes: (truncated or )?corrupt after \d\.\d{3} s.*undamaged copy"):
        seen.extend(read_frames(bytes(damaged), every=0.2))
    assert 0 < len(seen) < len(whole)
    for frame in seen:
        assert frame.pixels.tobytes() == whole[frame.time]


def test_a_block_that_is_gone_is_missed(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mkv", moving_planes(6), codec="ffv1").read_bytes()
    # An element of the same length that players skip (Void) in the place of a block.
    at = data.index(b"\xa3", data.index(b"\x1f\x43\xb6\x75") + 12)
    hidden = data[:at] + b"\xec" + data[at + 1 :]
    with pytest.raises(ImageError):
        list(read_frames(hidden, every=0.04))
    assert len(list(read_frames(data, every=0.04))) == 6


def test_what_states_no_end_is_refused(tmp_path: Path) -> None:
    fragments = write_video(
        tmp_path / "a.mp4", moving_planes(20), movflags="frag_keyframe+empty_moov", options={"g": "5"}
    ).read_bytes()
    with pytest.raises(ImageError, match=r"fragmented MP4 that does not say .* ffmpeg -i FILE -map 0:v -c copy"):
        list(read_frames(fragments[: fragments.index(b"mfra") - 4], every=1.0))
    many = write_video(
        tmp_path / "dash.mp4", moving_planes(20), movflags="dash+frag_keyframe+skip_trailer", options={"g": "5"}
    )
    assert many.read_bytes().count(b"sidx") > 1
    with pytest.raises(ImageError, match="fragmented MP4 that does not say"):
        list(read_frames(many, every=1.0))
    recorded = bytearray(write_video(tmp_path / "a.mkv", moving_planes(5)).read_bytes())
    segment = recorded.index(b"\x18\x53\x80\x67") + 4
    recorded[segment : segment + 8] = b"\x01" + b"\xff" * 7
    with pytest.raises(ImageError, match="Matroska that does not say where it ends"):
        list(read_frames(bytes(recorded), every=1.0))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no video of a known format"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "no video of a known format"),
        (b"RIFF\x00\x10\x00\x00AVI LIST", "an AVI video"),
        (b"G" + bytes(187) + b"G" + bytes(187), "an MPEG transport stream"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"", "the file is empty"),
    ],
)
def test_other_content_is_refused_whatever_its_name(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"clip\.mp4: .*{named}"):
        list(read_frames(path, every=1.0))


def test_nothing_else_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg gets an open file, one demuxer, and a function that refuses whatever that wants to open."""
    path = write_video(tmp_path / "clip.mp4", moving_planes(2))
    given: dict[str, Any] = {}
    original = av.open

    def recorded(file: Any, *arguments: Any, **settings: Any) -> Any:
        given.update(settings, file=file)
        return original(file, *arguments, **settings)

    monkeypatch.setattr(av, "open", recorded)
    list(read_frames(path, every=1.0))
    assert given["format"] == "mov"
    assert not isinstance(given["file"], (str, Path))
    allowed = set(given["options"]["codec_whitelist"].split(","))
    assert {"h264", "hevc", "libdav1d"} < allowed
    assert not {"aac", "gif", "hls", "png", "rawvideo"} & allowed
    with pytest.raises(ImageError, match=r"refers to another file .*elsewhere"):
        given["io_open"]("elsewhere.mp4", 1, {})


@pytest.mark.parametrize("name", ["none.mp4", "folder", "https://example.org/clip.mp4"])
def test_what_is_no_file_is_a_file_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=name.rpartition("/")[2]):
        list(read_frames(name, every=1.0))


def test_the_pixel_limit_holds_before_a_frame_is_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_planes(3, 96, 128))
    assert len(list(read_frames(path, every=0.04, pixel_limit=96 * 128))) == 3
    with pytest.raises(ImageError, match="128 x 96 pixels, over the limit of 12287"):
        list(read_frames(path, every=0.04, pixel_limit=96 * 128 - 1))


def test_frames_that_grow_are_held_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "grows.mov"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        for number, (height, width) in enumerate([(48, 64), (480, 640)]):
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            frame = video_frame(gray_planes(100, height, width), "yuvj420p")
            frame.pts = number
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = number
                container.mux(packet)
    assert [frame.pixels.shape[:2] for frame in read_frames(path, every=0.04)] == [(48, 64), (480, 640)]
    frames = read_frames(path, every=0.04, pixel_limit=64 * 48)
    assert next(frames).pixels.shape == (48, 64, 3)
    with pytest.raises(ImageError, match=r"corrupt|over the limit"):
        next(frames)


def test_sound_alone_and_no_frames_are_errors(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=48_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match=r"sound\.mp4: no track of video"):
        list(read_frames(tmp_path / "sound.mp4", every=1.0))


def test_two_tracks_of_video_are_refused_unless_one_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        streams: list[Any] = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for stream in streams:
            frame = video_frame(gray_planes(100), "yuv420p")
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="2 tracks of video; keep one"):
        list(read_frames(path, every=1.0))


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_planes(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r'needs PyAV .* pip install "iqa-deploy\[video\]"'):
        list(read_frames(path, every=1.0))
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(__version__="16.1.0"))
    with pytest.raises(ImageError, match=r"needs PyAV 18 or newer, not 16\.1\.0: pip install --upgrade"):
        list(read_frames(path, every=1.0))


def test_other_codecs_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", [gray_planes(100)] * 2, codec="mpeg1video", options={})
    with pytest.raises(ImageError, match="coded as mpeg1video, which is not read; code it again"):
        list(read_frames(path, every=1.0))


def test_an_index_of_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    fragments = write_video(
        tmp_path / "a.mp4", moving_planes(20), movflags="frag_keyframe+empty_moov", options={"g": "5"}
    )
    plain = write_video(tmp_path / "b.mp4", moving_planes(20))
    for path, box, place in ((fragments, b"trun", 8), (plain, b"stsz", 12)):
        data = bytearray(path.read_bytes())
        at = data.index(box) + place
        data[at : at + 4] = b"\x01\xff\xff\xff"
        with pytest.raises(ImageError, match=r"corrupt: 33[0-9]* coded frames and sounds in"):
            list(read_frames(bytes(data), every=1.0))


def test_an_edit_list_leaves_frames_out(tmp_path: Path) -> None:
    """The second half of two seconds, by one edit that begins in the middle (ISO/IEC 14496-12, 8.6.6)."""
    path = write_video(
        tmp_path / "a.mp4", [gray_planes(40 + 3 * k) for k in range(50)], options={"crf": "0", "g": "10"}
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 8
    assert int.from_bytes(data[at : at + 4]) == 1
    data[at + 4 : at + 12] = (1000).to_bytes(4) + (12800).to_bytes(4)
    frames = list(read_frames(bytes(data), every=0.04))
    assert [frame.time for frame in frames] == [k / 25 for k in range(25)]
    expected = [brightness(40 + 3 * k) for k in range(25, 50)]
    assert [float(frame.pixels.mean()) for frame in frames] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("name", "sound"), [("a.mp4", "aac"), ("a.mov", "pcm_s16le"), ("a.mkv", "pcm_s16le"), ("a.webm", "libopus")]
)
def test_sound_beside_the_frames_does_no_harm(tmp_path: Path, name: str, sound: str) -> None:
    with av.open(str(tmp_path / name), "w", format="matroska" if name.endswith("mkv") else None) as container:
        heard: Any = container.add_stream(sound, rate=48_000)
        heard.layout = "mono"
        seen: Any = container.add_stream("libvpx-vp9" if name.endswith("webm") else "libx264", rate=25)
        seen.height, seen.width, seen.pix_fmt = 48, 64, "yuv420p"
        for number in range(50):
            frame = video_frame(gray_planes(100), "yuv420p")
            frame.pts = number
            container.mux(seen.encode(frame))
            wave = np.zeros((1, 1920), np.float32 if sound == "aac" else np.int16)
            piece = av.AudioFrame.from_ndarray(wave, format="fltp" if sound == "aac" else "s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 48_000, 1920 * number, Fraction(1, 48_000)
            container.mux(heard.encode(piece))
        container.mux(seen.encode(None))
        container.mux(heard.encode(None))
    assert times_of(tmp_path / name, 0.5) == [0.0, 0.52, 1.0, 1.52]


def test_interlaced_frames_are_frames_as_stored(tmp_path: Path) -> None:
    planes = [
        [plane.repeat(96 // len(plane), 0).repeat(128 // plane.shape[1], 1) for plane in f] for f in moving_planes(10)
    ]
    options = {"crf": "0", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    woven = write_video(tmp_path / "woven.mp4", planes, options=options, layout="yuv444p")
    plain = write_video(tmp_path / "plain.mp4", planes, layout="yuv444p")
    frames = [[frame.pixels for frame in read_frames(path, every=0.04)] for path in (woven, plain)]
    assert np.array_equal(*frames)


def test_transparency_is_refused(tmp_path: Path) -> None:
    planes = [[*frame, frame[0]] for frame in moving_planes(3)]
    path = write_video(tmp_path / "clear.webm", planes, codec="libvpx-vp9", layout="yuva420p", options={})
    with pytest.raises(ImageError, match="video with transparency; lay it over a background first"):
        list(read_frames(path, every=1.0))
