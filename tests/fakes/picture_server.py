"""A web server on this host that sends a picture, or does what servers should not do."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MUCH = 2**20


@contextmanager
def serve(picture: bytes) -> Iterator[str]:
    """Yield the address of a server; what it does is the first part of a path."""
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def send(self, code: int, body: bytes, **headers: object) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            half = picture[: len(picture) // 2]
            match self.path.split("?")[0].split("/")[1]:
                case "picture":
                    self.send(200, picture, Content_Length=len(picture))
                case "unsized":
                    self.send(200, picture)
                case "moved":
                    self.send(302, b"", Location="/picture", Content_Length=0)
                case "round":
                    self.send(302, b"", Location="/round", Content_Length=0)
                case "cut":
                    self.send(200, half, Content_Length=len(picture))
                case "cut-unsized":
                    self.send(200, half)
                case "short":
                    self.send(200, picture, Content_Length=len(half))
                case "stalled":
                    self.send(200, half, Content_Length=len(picture))
                    ended.wait()
                case "silent":
                    ended.wait()
                case "promises-much":
                    self.send(200, picture, Content_Length=10 * MUCH)
                case "sends-much":
                    self.send(200, b"")
                    while not ended.is_set():
                        try:
                            self.wfile.write(bytes(MUCH // 10))
                        except OSError:
                            return
                case "login":
                    self.send(403, b"secret", Content_Length=6)
                case _:
                    self.send(404, b"", Content_Length=0)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
