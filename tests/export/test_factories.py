"""Modules of others: imported as python -m would, and told in their own words where they fail."""

import sys

import pytest
from torch import nn

from iqa_export.factories import Factory
from iqa_runtime.errors import UsageError

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.Conv2d(3, width, 1)

    @classmethod
    def wide(cls):
        return cls(64)

network = Net()

def number():
    return 3

def fails():
    raise ValueError("no ImageNet weights\\nanother line")

def leaves():
    raise SystemExit(2)

def late(width):
    import beside
    return Net(beside.WIDTH)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with modules that other tests have not imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factory_net.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "factory_broken.py").write_text("import package_that_is_nowhere\n", encoding="utf-8")
    (tmp_path / "beside.py").write_text("WIDTH = 5\n", encoding="utf-8")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("factory_", "beside")):
            del sys.modules[name]


def test_a_class_and_a_function_of_the_current_folder_build_with_keywords():
    path = list(sys.path)
    network = Factory("factory_net:Net", {"width": 3}).build()
    assert isinstance(network, nn.Module)
    assert network.layer.out_channels == 3
    assert not network.training
    assert Factory("factory_net:Net.wide", {}).build().layer.out_channels == 64
    assert sys.path == path


def test_a_factory_may_import_from_the_folder_when_it_is_called():
    assert Factory("factory_net:late", {"width": 1}).build().layer.out_channels == 5


def test_an_installed_package_serves_too():
    assert isinstance(Factory("torch.nn:Identity", {}).build(), nn.Identity)


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("factory_net", {}, "write package.module:factory"),
        ("factory net:Net", {}, "write package.module:factory"),
        ("factory_net.py:Net", {}, "write factory_net:Net"),
        ("models/net.py:Net", {}, r"write models\.net:Net, in the folder that models lies in"),
        ("factory_net:Nett", {}, r"factory_net\.py has no 'Nett'; there is Net"),
        ("factory_absent:Net", {}, "there is no module 'factory_absent', neither in .* nor installed"),
        ("factory_net.sub:Net", {}, "there is no module 'factory_net.sub'"),
        ("factory_broken:Net", {}, r"ModuleNotFoundError: No module named 'package_that_is_nowhere' .*broken\.py:1\)"),
        ("factory_net:network", {}, "'network' is of type Net; name the class"),
        ("factory_net:number", {}, "gives int; return the network"),
        ("factory_net:fails", {}, r"fails: ValueError: no ImageNet weights \(.*factory_net\.py:20\); mend it there"),
        ("factory_net:leaves", {}, "fails: SystemExit: 2"),
        ("factory_net:Net", {"widht": 3}, r"\[network\] \(widht\): TypeError: .*unexpected keyword argument 'widht'"),
    ],
)
def test_what_fails_is_told_in_its_own_words(module, arguments, said):
    with pytest.raises(UsageError, match=said) as raised:
        Factory(module, arguments).build()
    assert "\n" not in str(raised.value)


def test_an_interrupt_is_no_fault_of_the_module(folder):
    (folder / "factory_interrupt.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        Factory("factory_interrupt:x", {}).build()
