"""Write docs/contract.schema.json: the JSON Schema of contracts, from the types that read them.

python tools/write_contract_schema.py
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from iqa_runtime.contract import SCHEMA_VERSION, Contract

OUTPUT = Path(__file__).parents[1] / "docs" / "contract.schema.json"


def contract_schema() -> dict[str, Any]:
    """Return the schema: JSON Schema 2020-12, with no field but those of the types.

    Rules between fields, and ranges of numbers, are not in it: `iqa_runtime.artefacts.contract_rules` holds those.
    """
    schema = msgspec.json.schema(Contract)
    for definition in schema["$defs"].values():
        if "description" in definition:  # msgspec before 0.23 leaves the indentation of docstrings in it
            definition["description"] = inspect.cleandoc(definition["description"])
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Contract of an iqa-deploy artefact, schema {SCHEMA_VERSION}",
        **schema,
    }


def text() -> str:
    """Return what is to be in the file."""
    return json.dumps(contract_schema(), indent=1) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text(), encoding="utf-8")
