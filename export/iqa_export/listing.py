"""What ``iqa-export --list`` shows: every system and variant, its size and work, where it and its weights come from."""

from __future__ import annotations

import warnings

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iqa_export.systems import GraphChoice, System, all_systems
from iqa_runtime.contract import OWN_SIZE
from iqa_runtime.errors import first_line

_MEASURED_SIZE = (512, 512)
"""Height and width of a picture whose work is counted where networks take any."""


def show_systems(console: Console) -> None:
    """Print a table of sizes and, below it, the provenance of every system."""
    sizes = Table(title="GMAC: 10^9 multiply-accumulates of one input, as written and deployed", title_justify="left")
    for heading in ("model", "variant", "task", "input", "parameters", "GMAC", "deployed"):
        sizes.add_column(heading, justify="right" if heading in ("parameters", "GMAC", "deployed") else "left")
    for system in all_systems().values():
        height, width = _item_size(system)
        crop = f"{width} x {height}"
        if system.patch_plan.kind == "whole":
            crop = f"picture, {crop}" if system.input_size != OWN_SIZE else f"picture (GMAC of {crop})"
        for variant, tasks in system.tasks.items():
            per_item = system.crops_per_item_of(variant)
            item = f"{per_item} of {crop}" if per_item > 1 else crop
            for task in tasks:
                # The segment changes no shape: any one measures the same.
                segment = system.segments[0] if system.segments and task != "nr" else None
                choice = GraphChoice(variant=variant, task=task, segment=segment)
                try:
                    parameters, written, deployed = measure(system, choice)
                    row = (f"{parameters / 1e6:.1f} M", f"{written:.1f}", f"{deployed:.1f}")
                except Exception as error:  # another package's network may fail in any way, and others are to be listed
                    warnings.warn(f"{system.name} {variant} cannot be measured: {first_line(error)}", stacklevel=2)
                    row = ("?", "?", "?")
                sizes.add_row(system.name, variant, task, item, *row)
    console.print(sizes)
    for system in all_systems().values():
        origin = Table(title=f"{system.name}: {system.title}", title_justify="left", show_header=False, box=None)
        origin.add_column(no_wrap=True)
        origin.add_column(overflow="fold")
        for heading in ("paper", "code", "licence"):
            origin.add_row(heading, getattr(system, heading))
        phrases = {variant: system.faithful_of(variant) for variant in system.tasks}
        for phrase in dict.fromkeys(phrases.values()):
            variants = [variant for variant in phrases if phrases[variant] == phrase]
            origin.add_row("faithful", f"{', '.join(variants)}: {phrase}")
        origin.add_row("weights", system.weights_source)
        console.print(origin)


def measure(system: System, choice: GraphChoice) -> tuple[int, float, float]:
    """Return parameters, and 10^9 multiply-accumulates of one item as written and deployed; nothing is computed."""
    with torch.device("meta"):
        network = system.build(choice.variant).requires_grad_(False)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        written = _gmac(system.as_written(network, choice), system, choice)
        deployed = _gmac(system.deployed(network, choice), system, choice)
    return parameters, written, deployed


def _gmac(module: nn.Module, system: System, choice: GraphChoice) -> float:
    shape = system.crop_input("image", variant=choice.variant).shape[1:-2]
    item = torch.empty(1, *map(int, shape), *_item_size(system), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(*([item] if choice.task == "nr" else [item, item]))
    return float(counter.get_total_flops()) / 2e9


def _item_size(system: System) -> tuple[int, int]:
    """Return height and width of an item: those to measure with where pictures come at their own."""
    height, width = system.input_size
    return (int(height), int(width)) if system.input_size != OWN_SIZE else _MEASURED_SIZE
