"""The binary and the JSON form of requests and responses, as the protocol has them."""

import base64
import json
import struct

import pytest

from iqa_serving.problems import ProblemError
from iqa_serving.tensors import read_request, write_response


def request_of(*elements, shape=None, **tensor):
    content = b"".join(struct.pack("<I", len(each)) + each for each in elements)
    described = {
        "name": "image",
        "shape": [len(elements)] if shape is None else shape,
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(content)},
    }
    text = json.dumps({"inputs": [described | tensor]}).encode()
    return text + content, str(len(text))


MOST = 3
"""Elements of a tensor."""


@pytest.mark.parametrize("data", [["AA=="] * 4, [["AA=="] * 2] * 2, [[]] * 4])
def test_no_more_elements_are_taken_than_a_request_may_have(data):
    tensor = {"name": "image", "shape": [4], "datatype": "BYTES", "data": data}
    for body, length in ((json.dumps({"inputs": [tensor]}).encode(), None), request_of(*[b"x"] * 4)):
        with pytest.raises(ProblemError, match="more than 3 elements") as caught:
            read_request(body, length, most=MOST)
        assert caught.value.status == 413


def test_a_message_does_not_repeat_what_is_long():
    for tensor in ({"name": "n" * 1000, "shape": [2]}, {"datatype": "D" * 1000}, {"shape": [1] * 1000}):
        with pytest.raises(ProblemError) as caught:
            read_request(*request_of(b"one", **tensor), most=MOST)
        assert len(caught.value.detail) < 200


def test_elements_of_both_forms_come_back():
    elements = [b"", b"\x00\xff", b"x" * 1000]
    _, tensors = read_request(*request_of(*elements), most=MOST)
    assert tensors == {"image": elements}
    texts = [base64.b64encode(each).decode() for each in elements]
    for shape, data in (([3], texts), ([3, 1], [[text] for text in texts])):
        tensor = {"name": "image", "shape": shape, "datatype": "BYTES", "data": data}
        assert read_request(json.dumps({"inputs": [tensor]}).encode(), None, most=MOST)[1] == {"image": elements}


def test_a_request_cut_anywhere_is_refused():
    body, length = request_of(b"one", b"four")
    for end in range(len(body)):
        with pytest.raises(ProblemError):
            read_request(body[:end], length, most=MOST)


@pytest.mark.parametrize(
    ("tensor", "word"),
    [
        ({"shape": [2]}, "shape"),
        ({"shape": [-1]}, "shape"),
        ({"shape": []}, "shape"),
        ({"shape": "1"}, "inputs"),
        ({"datatype": "UINT8"}, "UINT8"),
        ({"parameters": {"binary_data_size": -1}}, "-1 bytes"),
        ({"parameters": {"binary_data_size": True}}, "True bytes"),
        ({"parameters": {"binary_data_size": 3}}, "cut short"),
        ({"parameters": {}, "data": ["AA=="]}, "follow the last"),
        ({"parameters": {}, "data": ["?"]}, "base64"),
        ({"parameters": {}, "data": [1]}, "base64"),
    ],
)
def test_tensors_that_contradict_themselves_are_refused(tensor, word):
    with pytest.raises(ProblemError, match=word) as caught:
        read_request(*request_of(b"one", **tensor), most=MOST)
    assert caught.value.status == 400


@pytest.mark.parametrize("length", ["-1", "x", "999999", "", "9" * 5000])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(ProblemError, match="Length"):
        read_request(request_of(b"one")[0], length, most=MOST)


def test_the_same_name_twice_is_refused():
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}
    with pytest.raises(ProblemError, match="twice"):
        read_request(json.dumps({"inputs": [tensor, tensor]}).encode(), None, most=MOST)


def test_nested_without_end_is_refused():
    with pytest.raises(ProblemError):
        read_request(b'{"inputs":' + b"[" * 100_000, None, most=MOST)


def test_a_response_in_both_forms():
    outputs = [("score", "FP64", [2], [0.1, None]), ("row", "BYTES", [2], ["a", "ü"])]
    content, headers = write_response({"model_name": "m"}, outputs, [False, False])
    assert json.loads(content)["outputs"][0]["data"] == [0.1, None]
    assert "Inference-Header-Content-Length" not in headers
    content, headers = write_response({"model_name": "m"}, outputs, [True, True])
    length = int(headers["Inference-Header-Content-Length"])
    sizes = [each["parameters"]["binary_data_size"] for each in json.loads(content[:length])["outputs"]]
    assert sizes == [16, 11]
    value, nothing = struct.unpack("<2d", content[length : length + 16])
    assert (value, nothing != nothing) == (0.1, True)
    assert content[length + 16 :] == b"\1\0\0\0a\2\0\0\0\xc3\xbc"
