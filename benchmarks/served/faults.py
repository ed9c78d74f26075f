"""What clients that misbehave, and processes that die, cost those of ``iqa-serve`` that do neither."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from served.clients import PATIENCE, Server, name_of, post, send, server, together

GOOD = 8
"""Clients that do nothing wrong."""

BAD = 64
"""Clients that do."""

SETTLED = 0.25
"""Seconds after which a request that was sent is in the server; the header of a later one may cross the signal."""

Expected = dict[str, float]

Bad = Callable[[int, threading.Event], str]
"""A client that is given a port and told when the good ones have done; it returns what it met with."""


def _header(length: int) -> bytes:
    return b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def _slowly(port: int, until: threading.Event) -> str:
    """Send a byte of a body now and then, until told to stop or answered."""
    with _connected(port) as connection:
        connection.sendall(_header(1000))
        while not until.wait(1):
            connection.sendall(b"x")
    return "hung on"


def _half(port: int, _: threading.Event) -> str:
    with _connected(port) as connection:
        connection.sendall(_header(100_000) + b"x" * 50_000)
    return "hung up"


def _status(connection: socket.socket) -> str:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received.split(b" ", 2)[1].decode() if received else "nothing"


def _oversized(port: int, _: threading.Event) -> str:
    with _connected(port) as connection:
        connection.sendall(_header(10**9) + b"x" * 100_000)
        return _status(connection)


def _broken(port: int, _: threading.Event, *, content: bytes) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    answer = post(connection, content[: len(content) * 2 // 3])
    connection.close()
    return str(answer[0])


def beside(running: Server, paths: list[Path], expected: Expected, bad: Bad) -> tuple[float, Counter[str]]:
    """Let good clients send pictures beside bad ones; requests a second of the good ones, and what the bad ones met."""
    ended, met = threading.Event(), Counter[str]()
    others = [threading.Thread(target=lambda: met.update([bad(running.port, ended)])) for _ in range(BAD)]
    for other in others:
        other.start()
    try:
        rate = send(running.port, paths, GOOD, expected).rate
    finally:
        ended.set()
    for other in others:
        other.join()
    return rate, met


def misbehaviour(artefact: str, paths: list[Path], expected: Expected, threads: int) -> list[str]:
    """Return a row for each way to misbehave; every answer to the good clients was right, or there is no row."""
    content = paths[0].read_bytes()
    rows = []
    with server(artefact, "--threads", threads, "--queue", 2 * (GOOD + BAD)) as running:
        alone = send(running.port, paths, GOOD, expected).rate
        for name, bad in (
            ("a byte a second", _slowly),
            ("hang up in the middle of a body", _half),
            ("promise a gigabyte", _oversized),
            ("send images that are cut", lambda port, ended: _broken(port, ended, content=content)),
        ):
            rate, met = beside(running, paths, expected, bad)
            told = ", ".join(f"{what} {count}" for what, count in sorted(met.items()))
            rows.append(f"| {BAD} clients {name} | {rate / alone:.0%} | {told} |")
    return rows


def kill(artefact: str, paths: list[Path], expected: Expected) -> str:
    """Kill one of two workers under load; clients that lose their connection send their picture again."""
    left, taking, lost = iter(paths), threading.Lock(), Counter[str]()
    took: list[float] = []
    wrong: list[object] = []

    with server(artefact, "--threads", 1, workers=2) as running:

        def client(number: int) -> None:
            if not number:
                time.sleep(SETTLED)
                began = time.perf_counter()
                os.kill(running.workers()[0], signal.SIGKILL)
                running.heard("by signal 9")
                running.heard("ready")
                took.append(time.perf_counter() - began)
                return
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
            while True:
                with taking:
                    path = next(left, None)
                if path is None:
                    connection.close()
                    return
                while True:
                    try:
                        _, answer = post(connection, path.read_bytes())
                        break
                    except (ConnectionError, http.client.HTTPException):
                        lost["connections"] += 1
                        connection.close()
                if answer.get("score") != expected[name_of(path)]:
                    wrong.append(answer)

        together(1 + GOOD, client)
    if wrong:
        raise SystemExit(f"{len(wrong)} answers are not what iqa-run says: {wrong[:3]}")
    return (
        f"One of two workers killed under {GOOD} clients: {lost['connections']} of {len(paths)} requests lost and sent "
        f"again, all answered right; another worker was ready {took[0]:.1f} s later."
    )


def terminate(artefact: str, paths: list[Path], expected: Expected, clients: int, threads: int) -> str:
    """End a server under load; what was sent before that must be answered."""
    results: list[tuple[float, str]] = []
    asked: list[float] = []

    with server(artefact, "--threads", threads, "--queue", 2 * clients) as running:

        def client(number: int) -> None:
            if number == clients:
                time.sleep(2)
                asked.append(time.perf_counter())
                running.process.send_signal(signal.SIGTERM)
                return
            path = paths[number % len(paths)]
            content = path.read_bytes()
            with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)) as connection:
                while True:
                    sent = time.perf_counter()
                    try:
                        status, answer = post(connection, content)
                    except (OSError, http.client.HTTPException, json.JSONDecodeError):
                        results.append((sent, "none"))
                        return
                    is_right = status == 200 and answer.get("score") == expected[name_of(path)]
                    results.append((sent, "right" if is_right else f"{status}"))

        together(clients + 1, client)
        code = running.process.wait(PATIENCE)
    early = Counter(what for sent, what in results if sent < asked[0] - SETTLED)
    late = Counter(what for sent, what in results if sent >= asked[0] - SETTLED)
    if set(early) - {"right"} or code:
        raise SystemExit(f"exit code {code}; of requests that were sent before SIGTERM: {dict(early)}")
    return (
        f"SIGTERM under {clients} clients: all {early['right']} requests sent at least {SETTLED} s before it were "
        f"answered right, and {late['right']} of {late.total()} later ones. Exit code 0."
    )


def faults(artefact: str, paths: list[Path], expected: Expected, threads: int) -> Iterator[str]:
    """Yield a document of it all."""
    yield f"| beside {GOOD} good clients | their requests/s, of those without | what the others met |"
    yield "| --- | ---: | --- |"
    yield from misbehaviour(artefact, paths, expected, threads)
    yield ""
    yield kill(artefact, paths, expected)
    yield ""
    yield terminate(artefact, paths, expected, BAD, threads)
