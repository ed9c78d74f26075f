"""Write the seeds of the corpus anew: ``python tests/fuzz/seeds.py``; small files of every form that a target reads.

What fuzzing found lies beside them, under names that say what it is, and is left alone.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from described_plans import BUILT_FOR_RTX, described
from iqa_calibration.graphs.finishing import embed_contract
from iqa_runtime.artefacts.contract_json import contract_to_json
from iqa_runtime.commands.rows import KEYS, columns
from iqa_runtime.contract import BakedReference, FileDigest, MapOutput, TensorInput
from iqa_runtime.measuring import MEASURED
from tiny_contract import tiny_contract
from video_files import moving_planes, write_video

CORPUS = Path(__file__).parent / "corpus"
SIDE = 32
_TIFF_ORIENTATION, _TIFF_EXTRA_SAMPLES = 274, 338


def images() -> Iterator[tuple[str, bytes]]:
    """Yield pictures of a few pixels in every format, with what its headers can say."""
    random = np.random.default_rng(0)
    rgba = random.integers(0, 256, (9, 13, 4), dtype=np.uint8)
    rgb, gray = rgba[..., :3], rgba[..., 0]
    color = Image.fromarray(rgb)
    turned = Image.Exif()
    turned[_TIFF_ORIENTATION] = 6
    yield "jpeg", saved(color, "JPEG", quality=70)
    yield "jpeg_progressive_turned", saved(color, "JPEG", progressive=True, exif=turned)
    yield "jpeg_gray", saved(Image.fromarray(gray), "JPEG")
    yield "jpeg_cmyk", saved(color.convert("CMYK"), "JPEG")
    yield "jpeg_restarts", saved(color, "JPEG", restart_marker_blocks=1, subsampling=0)
    yield "png", saved(color, "PNG", exif=turned)
    yield "png_alpha", saved(Image.fromarray(rgba), "PNG")
    yield "png_palette", saved(color.quantize(4), "PNG", transparency=1)
    yield "png_two_colours", saved(Image.fromarray(gray).convert("1"), "PNG", transparency=0)
    yield "png_16_bits", encoded(".png", rgba.astype(np.uint16) * 257)
    yield "webp", saved(color, "WEBP", quality=60)
    yield "webp_lossless_alpha", saved(Image.fromarray(rgba), "WEBP", lossless=True, exif=turned)
    yield "webp_moving", saved(color, "WEBP", save_all=True, append_images=[color.rotate(180)])
    yield "bmp", saved(color, "BMP")
    yield "bmp_palette", saved(color.quantize(4), "BMP")
    yield "bmp_alpha", encoded(".bmp", rgba)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield f"tiff_{compression.removeprefix('tiff_')}", saved(color, "TIFF", compression=compression)
    yield "tiff_alpha", saved(Image.fromarray(rgba), "TIFF", tiffinfo={_TIFF_EXTRA_SAMPLES: 2})
    yield "tiff_turned_gray", saved(Image.fromarray(gray), "TIFF", tiffinfo={_TIFF_ORIENTATION: 8})
    yield "tiff_two_pages", saved(color, "TIFF", save_all=True, append_images=[color])
    yield "tiff_16_bits", encoded(".tiff", rgb.astype(np.uint16) * 257)
    yield "gif", saved(color.quantize(4), "GIF")
    yield "gif_moving", saved(color.quantize(4), "GIF", save_all=True, append_images=[color.quantize(3)])
    yield "avif_alpha_turned", saved(Image.fromarray(rgba), "AVIF", exif=turned.tobytes(), speed=10)
    yield "avif_moving", saved(color, "AVIF", save_all=True, append_images=[color.rotate(180)], speed=10)
    yield "jp2_alpha", saved(Image.fromarray(rgba), "JPEG2000")
    yield "j2k_tiles", saved(Image.fromarray(gray), "JPEG2000", no_jp2=True, tile_size=(8, 8))
    yield "jxl", imagecodecs.jpegxl_encode(rgb, distance=1.0)
    yield "jxl_alpha_in_boxes", imagecodecs.jpegxl_encode(rgba, usecontainer=True)
    yield "jxl_moving_16_bits", imagecodecs.jpegxl_encode(np.stack([rgb, rgb[::-1]]).astype(np.uint16) * 257)
    yield "ppm", saved(color, "PPM")
    yield "pbm_in_text", b"P1\n# two rows\n3 2\n0 1 0\n1 1 0\n"


def videos() -> Iterator[tuple[str, bytes]]:
    """Yield videos of a few small frames."""
    forms: dict[str, dict[str, Any]] = {
        "h264.mp4": {"codec": "libx264", "options": {"g": "3"}},
        "fragments.mp4": {"codec": "libx264", "options": {"g": "3"}, "movflags": "frag_keyframe+empty_moov"},
        "hevc.mov": {"codec": "libx265", "options": {}},
        "mpeg4.mp4": {"codec": "mpeg4", "options": {}},
        "vp8.webm": {"codec": "libvpx", "options": {}},
        "vp9.webm": {"codec": "libvpx-vp9", "options": {}},
        "av1.mkv": {"codec": "libsvtav1", "options": {}},
        "ffv1.mkv": {"codec": "ffv1"},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in forms.items():
            yield name, write_video(Path(folder) / name, moving_planes(5, 64, 64), **settings).read_bytes()


def contracts() -> Iterator[tuple[str, bytes]]:
    """Yield contracts of both schemas."""
    plain = tiny_contract(SIDE)
    baked = BakedReference(file="clean.png", sha256="0" * 64, width=80, height=64)
    maps = (MapOutput(name="quality_map", rows=4, columns=4),)
    yield "plain", contract_to_json(plain).encode()
    yield "two_images", contract_to_json(tiny_contract(SIDE, "fr")).encode()
    yield "maps_and_gate", contract_to_json(replace(plain, maps=maps, gate={"worst": 0.1, "of": [1, 2]})).encode()
    yield "baked", contract_to_json(replace(plain, task="fr", baked_reference=baked)).encode()
    yield "encoder", contract_to_json(cached("0" * 64)).encode()
    first = json.loads(contract_to_json(plain)) | {"schema": 1, "options": {"baked_width": "80", "baked_height": "64"}}
    first["plan"] = first.pop("patch_plan")
    yield "schema_1", json.dumps(first).encode()


def artefacts() -> Iterator[tuple[str, bytes]]:
    """Yield ONNX files: artefacts, an encoder, and one whose weights lie elsewhere."""
    yield "plain", graph(["image"], tiny_contract(SIDE))
    yield "two_images", graph(["image", "reference"], tiny_contract(SIDE, "fr"))
    yield "encoder", graph(["reference"], None)
    yield "with_encoder", graph(["image"], cached("0" * 64))
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="weights.bin")
    yield "weights_elsewhere", graph(["image"], tiny_contract(SIDE), weights)


def descriptions() -> Iterator[tuple[str, bytes]]:
    """Yield descriptions of engines."""
    plain = described(tiny_contract(SIDE))
    yield "plain", plain.to_json()
    yield "rtx", replace(plain, host=BUILT_FOR_RTX, stripped=True, version_compatible=True).to_json()
    yield "layers", replace(plain, layer_tensors={"/block/output": (3, 8)}, workspace=2**30).to_json()


def rows() -> Iterator[tuple[str, bytes]]:
    """Yield outputs of earlier runs, whole and cut."""
    artefact = "0123456789ab:five"
    scored = [
        "a.png",
        0.25,
        12.5,
        "pass",
        ["blur", "noise"],
        dict(zip(MEASURED, (0.41, 12.5, None, 87, 0.0, 0.25), strict=True)),
        "a,b/7",
        1,
        [0.0, None],
        "higher",
        13,
        9,
        "Display P3 -> sRGB",
        5,
        1.5,
        artefact,
        None,
    ]
    failed = ["b,\n.png", *[None] * 7, [0.0, 1.0], "lower", None, None, None, 0, 0.5, artefact, "corrupt"]
    lines = "".join(json.dumps(dict(zip(KEYS, row, strict=True))) + "\n" for row in (scored, failed)).encode()
    header = ",".join(columns(KEYS)).encode()
    table = header + (
        b'\na.png,0.25,12.5,pass,"blur,noise",0.41,12.5,,87,0.0,0.25,"a,b/7",1,0.0 inf,higher,13,9,untagged,5,1.5,'
        b"0123456789ab:five,\n"
        b'"b,\n.png",,,,,,,,,,,,,0.0 1.0,lower,,,,0,0.5,0123456789ab:five,corrupt\n'
    )
    yield "jsonl", lines
    yield "jsonl_cut", lines[:-20]
    yield "csv", table
    yield "csv_cut", table[:-20]
    yield "empty", b""


def cached(digest: str) -> Any:
    """Return the contract of an artefact with a reference encoder of that digest."""
    features = TensorInput(name="reference_features", shape=("batch", 1, SIDE, SIDE), layout="features", color=None)
    plain = tiny_contract(SIDE, "nar")
    encoder = FileDigest(file="x.reference.onnx", sha256=digest)
    return replace(plain, inputs=(plain.inputs[0], features), reference_encoder=encoder)


def graph(inputs: list[str], contract: Any, *constants: TensorProto) -> bytes:
    """Return a graph that passes its first input on, with a contract if there is one."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, SIDE, SIDE]) for name in inputs]
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    node = helper.make_node("ReduceMean", [inputs[0]], ["score"])
    model = helper.make_model(helper.make_graph([node], "g", values, [score], list(constants)))
    if contract is not None:
        embed_contract(model, contract)
    return bytes(onnx.ModelProto.SerializeToString(model))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def encoded(suffix: str, pixels: Any) -> bytes:
    """Return a picture as OpenCV writes it."""
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def main() -> None:
    """Write all seeds."""
    for target, seeds in {
        "image": images,
        "video": videos,
        "contract": contracts,
        "artefact": artefacts,
        "description": descriptions,
        "rows": rows,
    }.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
