"""Clients that send too much, too slowly, or half of it, on bare sockets."""

import json
import socket
from contextlib import contextmanager

import pytest

from eventually import DEADLINE, eventually
from iqa_serving import bodies, server

pytestmark = pytest.mark.serve

NONE_UNDER_WAY = b"iqa_requests_under_way 0.0"


@contextmanager
def connected(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE) as connection:
        yield connection


def answer(connection):
    """Read to the end of the connection: the status, the headers and what the body says."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, json.loads(body)


def test_a_body_that_promises_too_much_is_refused_unread(serve, artefact, monkeypatch):
    monkeypatch.setattr(bodies, "_LINGER_SECONDS", 0.1)
    with serve(artefact(), body_limit=1000) as running, connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        status, headers, content = answer(client)
        assert (status, headers["content-type"], content["status"]) == (413, "application/problem+json", 413)


@pytest.mark.parametrize("declared", [b"Content-Length: 20000000", b"Transfer-Encoding: chunked"])
def test_who_sends_too_much_gets_to_read_why(serve, artefact, declared):
    """All of it is sent before anything is read, as simple clients do."""
    chunk = b"x" * 100_000
    with serve(artefact(), body_limit=150_000) as running, connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\n" + declared + b"\r\n\r\n")
        for _ in range(200):
            client.sendall(chunk if declared.startswith(b"Content") else b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if declared.startswith(b"Transfer"):
            client.sendall(b"0\r\n\r\n")
        status, headers, content = answer(client)
        assert (status, headers["connection"], "150000 bytes" in content["detail"]) == (413, "close", True)


def test_who_never_ends_is_hung_up_on(serve, artefact, monkeypatch):
    monkeypatch.setattr(bodies, "_LINGER_SECONDS", 0.1)
    with serve(artefact(), body_limit=1000) as running, connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000)
        assert answer(client)[0] == 413


def test_a_body_that_comes_too_slowly_is_given_up(serve, artefact, monkeypatch):
    monkeypatch.setattr(bodies, "_LINGER_SECONDS", 0.1)
    with serve(artefact(), body_timeout=0.2) as running, connected(running) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        status, _, content = answer(client)
        assert (status, "0.2 s" in content["detail"]) == (408, True)


def test_half_a_request_takes_nothing_for_long(serve, artefact, picture):
    with serve(artefact()) as running:
        with connected(running) as client:
            client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            eventually(lambda: b"iqa_requests_under_way 1.0" in running.service.metrics.exposition())
        eventually(lambda: NONE_UNDER_WAY in running.service.metrics.exposition())
        assert running.post(content=picture()).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /score HT"])
def test_a_connection_that_begins_no_request_is_closed(serve, artefact, monkeypatch, sent):
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.1)
    with serve(artefact()) as running, connected(running) as client:
        client.sendall(sent)
        assert client.recv(1) == b""


def test_what_is_no_http_is_a_problem(serve, artefact):
    with serve(artefact()) as running, connected(running) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
        status, headers, content = answer(client)
        assert (status, headers["content-type"], content["title"]) == (400, "application/problem+json", "Bad Request")


def test_bodies_that_are_empty_or_compressed_are_refused(serve, artefact):
    with serve(artefact()) as running:
        assert running.post(content=b"").status_code == 400
        packed = running.post(content=b"x", headers={"Content-Encoding": "gzip"})
        assert (packed.status_code, packed.headers["accept-encoding"]) == (415, "identity")
