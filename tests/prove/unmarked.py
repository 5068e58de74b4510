"""A way to the emulator on which its mark is lost, so that a client takes it for the real service."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

import httpx

MARK, OTHER = b"x-gemini-emulator", b"x-something-other"
READ_BYTES = 1 << 16


class Unmarked:
    """Passes bytes on in both directions; in replies the mark's name becomes another of the same length."""

    def __init__(self, url: str) -> None:
        target = httpx.URL(url)
        self._target = (target.host, target.port or 80)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._acceptor = threading.Thread(target=self._accept)
        self._pairs: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        for thread in self._pairs:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._pairs.append(pair := threading.Thread(target=self._join, args=(client,)))
            pair.start()

    def _join(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as service:
            back = threading.Thread(target=_pass, args=(service, client, True))
            back.start()
            _pass(client, service, rename=False)
            back.join()


def _pass(source: socket.socket, target: socket.socket, rename: bool) -> None:
    with suppress(OSError):
        while data := source.recv(READ_BYTES):
            target.sendall(data.replace(MARK, OTHER) if rename else data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
