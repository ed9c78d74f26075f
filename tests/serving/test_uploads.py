"""Forms: what is in them, and what is wrong with them."""

import httpx
import pytest

from iqa_serving.problems import ProblemError
from iqa_serving.uploads import Part, read_form, read_uploads

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts):
    """Write a form as a client does: names, file names and contents."""
    files = [(name, (filename, content)) for name, filename, content in parts]
    return httpx.Request("POST", "http://x", files=files, headers={"Content-Type": TYPE}).read()


@pytest.mark.parametrize("content", [b"", b"\r\n", b"--b0undary", b"\r\n--b0undarx\r\n", bytes(range(256)) * 300])
def test_contents_come_back_byte_for_byte(content):
    body = form(("image", "a b.jpg", content), ("reference", None, b"other"))
    assert read_form(body, BOUNDARY.encode(), most=2) == [
        Part("image", "a b.jpg", content),
        Part("reference", None, b"other"),
    ]


def test_a_body_that_is_no_form_is_the_image():
    assert read_uploads(b"x", "image/png", needs_reference=False, most=1) == [(b"x", None)]
    assert read_uploads(b"x", "", needs_reference=False, most=1) == [(b"x", None)]


def test_file_names_of_any_bytes_become_text():
    body = form(("image", "NAME", b"1")).replace(b"NAME", b"\xff\xc3\xbc.jpg")
    (part,) = read_form(body, BOUNDARY.encode(), most=1)
    assert part.filename == "\ufffdü.jpg"


@pytest.mark.parametrize(
    ("parts", "status", "word"),
    [
        ([("picture", None, b"1")], 400, "'picture'"),
        ([("reference", None, b"1")], 400, "no part image"),
        ([("image", None, b"1")] * 3, 413, "at most 2"),
        ([("image", None, b"1")] * 5, 413, "more than 4 parts"),
        ([("image", None, b"1"), ("reference", None, b"1")], 400, "takes no reference"),
    ],
)
def test_what_a_form_may_hold(parts, status, word):
    with pytest.raises(ProblemError, match=word) as caught:
        read_uploads(form(*parts), TYPE, needs_reference=False, most=2)
    assert caught.value.status == status


def test_a_form_cut_anywhere_is_refused():
    body = form(("image", "a.jpg", b"one"), ("image", "b.jpg", b"two"))
    assert len(read_uploads(body, TYPE, needs_reference=False, most=2)) == 2
    end = body.rindex(b"--")
    for length in range(end):
        with pytest.raises(ProblemError):
            read_uploads(body[:length], TYPE, needs_reference=False, most=2)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 500])
def test_a_form_without_a_boundary_is_refused(content_type):
    with pytest.raises(ProblemError) as caught:
        read_uploads(form(("image", None, b"1")), content_type, needs_reference=False, most=2)
    assert caught.value.status == 400
