"""docs/contract.schema.json is the schema of the contract."""

import json

import write_contract_schema
from iqa_runtime import read_contract
from iqa_runtime.artefacts.contract_json import contract_to_json


def test_the_file_is_what_the_types_say():
    assert write_contract_schema.OUTPUT.read_text(encoding="utf-8") == write_contract_schema.text()


def test_it_has_every_field_of_a_contract_and_no_others():
    definitions = write_contract_schema.contract_schema()["$defs"]
    contract = json.loads(contract_to_json(read_contract("edge-nr")))
    assert set(contract) == set(definitions["Contract"]["properties"])
    assert set(contract["inputs"][0]) == set(definitions["TensorInput"]["properties"])
    assert all(definition["additionalProperties"] is False for definition in definitions.values())
