"""The table of ``iqa-export --list``."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from iqa_export.systems import SYSTEMS


def show_systems(console: Console) -> None:
    """Print every system and variant, and where its weights come from."""
    table = Table("model", "variant", "tasks", "crop", "parameters", "paper", "licence", "faithful")
    for system in SYSTEMS.values():
        for variant, tasks in system.tasks.items():
            parameters = sum(parameter.numel() for parameter in system.build(variant).parameters())
            crop = f"{system.crop} x {system.crop}"
            if system.crops_per_item > 1:
                crop = f"{system.crops_per_item} of {crop}"
            table.add_row(
                system.name,
                variant,
                ", ".join(tasks),
                crop,
                f"{parameters / 1e6:.1f} M",
                system.paper,
                system.licence,
                system.faithful,
            )
    console.print(table)
    for system in SYSTEMS.values():
        console.print(f"{system.name} weights: {system.weights_source}")
