"""What a system declares of whole pictures, as the contract that comes of it."""

from typing import ClassVar

import pytest

from iqa_export.systems.declarations import contract_faults, faults
from iqa_runtime.contract import MapOutput, PatchPlan, Resize
from small_system import Small


class OwnSize(Small):
    crop = 0
    patch_plan = PatchPlan(kind="whole", multiple=8, fit="reflect", smallest=16)
    map_outputs = (MapOutput(name="quality_map", rows=0, columns=0, cell=2),)


class FixedSize(Small):
    crop = 0
    patch_plan = PatchPlan(kind="whole")
    resize = Resize(to="exact", size=(24, 40), filter="bilinear")
    color = "BGR"
    map_outputs: ClassVar = (MapOutput(name="quality_map", rows=12, columns=20),)


def _wrong(system):
    return next(faults(system), None) or next(contract_faults(system), None)


def test_pictures_at_their_own_size_make_height_and_width_dynamic():
    assert _wrong(OwnSize()) is None
    assert OwnSize().crop_input("image").shape == ("batch", 3, "height", "width")


def test_pictures_at_a_fixed_size_have_that_of_their_resize():
    assert _wrong(FixedSize()) is None
    image = FixedSize().crop_input("image")
    assert image.shape == ("batch", 3, 24, 40)
    assert image.color == "BGR"


def test_a_resize_in_proportion_fixes_no_size():
    class Shorter(OwnSize):
        resize = Resize(to="shorter", size=64, filter="bilinear")

    assert _wrong(Shorter()) is None
    assert Shorter().crop_input("reference").shape == ("batch", 3, "height", "width")


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        ({"crop": 0, "patch_plan": PatchPlan(kind="five", size=32)}, "declares no crop"),
        ({"color": "GBR"}, "color is 'GBR'"),
        ({"resize": "exact"}, "resize is no Resize"),
        ({"resize": Resize(to="exact", size=(24, "40"), filter="bilinear")}, "resize: "),
        ({"resize": Resize(to="exact", size=64, filter="bilinear")}, "exact takes height and width"),
        ({"patch_plan": PatchPlan(kind="whole", multiple=8)}, "multiple and fit go together"),
        ({"patch_plan": PatchPlan(kind="whole", size=32)}, "whole pictures have no size"),
    ],
)
def test_what_does_not_go_together_is_told(declared, fault):
    assert fault in _wrong(type("Thing", (OwnSize,), declared)())
