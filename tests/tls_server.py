"""TLS in front of a server: a signer of one's own, its certificates, and a terminator that lets plain text pass too."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from types import TracebackType

_READ_BYTES = 1 << 16
_TLS_BEGINS = b"\x16"
_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Signer:
    """Signs certificates; ``ca`` is the file that those who trust it name. Everything lies in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"signer of {folder.name}")])
        made = self._builder(self._name, self._key.public_key(), days=1)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        made = made.add_extension(_SIGNS, critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.ca.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def certificate(self, *names: str, days: int = 1, flawed: bool = False) -> Path:
        """A file with a certificate for these names and addresses, and its key; with ``days`` below 0 it is over.

        A ``flawed`` one does not say which key has signed it, on which Python 3.13 and later insist.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        others = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        made = self._builder(subject, key.public_key(), days).add_extension(x509.SubjectAlternativeName(others), False)
        if not flawed:
            signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            made = made.add_extension(signed_by, critical=False)
        file = self._folder / f"{'-'.join(names)}{days}{'flawed' * flawed}.pem"
        file.write_bytes(
            made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return file

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(ends - dt.timedelta(days=2))
            .not_valid_after(ends)
        )


class Terminator:
    """Listens on 127.0.0.1 with the certificate in ``file``; plain text passes too, as a sentinel's to its master must.

    With ``strict`` it does not. With ``clients``, a signer's file, it asks for certificates. Where the server is,
    ``target`` says: a socket's path or a port. Use as an async context manager.
    """

    def __init__(self, file: Path, target: Path | int, clients: Path | None = None, *, strict: bool = False) -> None:
        self.port = 0
        self.encrypted = 0
        """How many connections came by TLS."""
        self._target = target
        self._strict = strict
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(file)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._start(self._accept(listener))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                self._start(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()
        loop.add_reader(connection, begun.set)
        try:
            await begun.wait()
        finally:
            loop.remove_reader(connection)
        by_tls = connection.recv(1, socket.MSG_PEEK) == _TLS_BEGINS
        self.encrypted += by_tls
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self._context if by_tls or self._strict else None
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
        except OSError:
            return  # the client does not trust us
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        up_reader, up_writer = await self._reach()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, up_writer))
                group.create_task(_pump(up_reader, writer))
        except* (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()
            up_writer.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(str(self._target))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
    raise EOFError
