"""What is shown of an address: enough to tell it from others, nothing that gives access."""

import pytest

from iqa_runtime.files.uris import public_name, scheme_of


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("https://h/a.jpg", "https"),
        ("S3://bucket/a.jpg", "s3"),
        ("file:///a.jpg", "file"),
        ("a/b.jpg", None),
        ("C:/a.jpg", None),
        ("a/https://b", None),
        ("", None),
    ],
)
def test_an_address_is_told_from_a_path(text, scheme):
    assert scheme_of(text) == scheme


@pytest.mark.parametrize(
    "uri",
    [
        "https://h/a.jpg",
        "HTTPS://h:8000/a%20b/ü.jpg?id=3&w=300",
        "https://h/a?author=me&keyword=sea",
        "https://h/a?sp=3&st=4",  # of Azure only beside a signature
        "s3://bucket/a?b#1.jpg",
        "az://container@account/a.jpg",
    ],
)
def test_a_plain_address_stays_as_it_is(uri):
    assert public_name(uri) == uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:password@h/a.jpg", "https://h/a.jpg"),
        ("https://token@h/a.jpg", "https://h/a.jpg"),
        ("https://a@b:c@h/a.jpg#access_token=x", "https://h/a.jpg"),
        ("s3://key:secret@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("https://h/a?X-Amz-Signature=f&id=3&X-Amz-Date=2&X-Amz-Credential=k%2F3", "https://h/a?id=3"),
        ("https://h/a?X-Goog-Signature=f", "https://h/a"),
        ("https://h/a?AWSAccessKeyId=k&Signature=s&Expires=1", "https://h/a"),
        ("https://h/a?Policy=p&Key-Pair-Id=k&w=1", "https://h/a?w=1"),
        ("https://h/a?sv=1&sp=r&se=2&sig=s&id=3", "https://h/a?id=3"),
        ("https://h/a?q-sign=s&q-ak=k&pass=p&pw=p&hdnts=h&design=d", "https://h/a?design=d"),
        ("https://h/a?access-token=t&api_key=k&apiKey=k&password=p&auth=a&session=s", "https://h/a"),
    ],
)
def test_what_gives_access_is_left_out(uri, shown):
    assert public_name(uri) == shown


@pytest.mark.parametrize("query", ["id={}", "{}", "{}=1", "x={}=="])
def test_long_values_are_told_apart_and_not_shown(query):
    first, second = (public_name("https://h/a?" + query.format(letter * 40)) for letter in "ab")
    assert first != second
    assert "aaa" not in first
    assert first == public_name("https://h/a?" + query.format("a" * 40))
