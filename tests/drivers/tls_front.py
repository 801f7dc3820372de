"""TLS in front of a server that has none, with certificates of the test's own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from ssl import CERT_REQUIRED, PROTOCOL_TLS_SERVER, SSLContext
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.tasks import end

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Reach: TypeAlias = Callable[[], Awaitable[Streams]]
_A_TLS_HANDSHAKE = b"\x16"


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """Who signs certificates; whoever has its own file trusts them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"Authority {folder.name}")
        mine = self._signed(self._name, self._key.public_key())
        self.file = folder / "authority.pem"
        """What clients read to trust it."""
        self.file.write_bytes(mine.public_bytes(Encoding.PEM))

    def certificate(self, name: str, *, days: int = 7) -> Certificate:
        """One for a host's name or address, which ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(_named(name), key.public_key(), name, days)
        files = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.certificate.write_bytes(signed.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        host: str | None = None,
        days: int = 7,
    ) -> x509.Certificate:
        ends = datetime.now(UTC) + timedelta(days=days)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(ends - timedelta(days=30))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if host is None:
            usage = x509.KeyUsage(*(n in (5, 6) for n in range(9)))
            built = built.add_extension(usage, critical=True)
        else:
            names = x509.SubjectAlternativeName([_host(host)])
            built = built.add_extension(names, critical=False)
        return built.sign(self._key, SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def context(ours: Certificate, clients: Authority | None = None) -> SSLContext:
    """What a server with that certificate needs; with `clients` each client must have one, too."""
    made = SSLContext(PROTOCOL_TLS_SERVER)
    made.load_cert_chain(ours.certificate, ours.key)
    if clients is not None:
        made.load_verify_locations(clients.file)
        made.verify_mode = CERT_REQUIRED
    return made


@asynccontextmanager
async def in_front(reach: Reach, tls: SSLContext) -> AsyncIterator[int]:
    """The port of what speaks TLS with who begins so, and hands what it reads on to `reach`.

    Who begins otherwise is handed on as it is: the servers behind speak so with each other.
    """
    tasks: set[asyncio.Task[None]] = set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def accept() -> None:
            while True:
                one, _ = await asyncio.get_running_loop().sock_accept(listener)
                tasks.add(asyncio.create_task(_served(one, reach, tls)))

        accepting = asyncio.create_task(accept())
        try:
            yield listener.getsockname()[1]
        finally:
            for task in (accepting, *tasks):
                await end(task)


async def _served(one: socket.socket, reach: Reach, tls: SSLContext) -> None:
    first = await _first_byte(one)
    with suppress(OSError, asyncio.IncompleteReadError):
        before = await _streams(one, tls if first == _A_TLS_HANDSHAKE else None)
        try:
            behind = await reach()
        except OSError:
            before[1].close()
            return
        try:
            ways = [_hand_on(before[0], behind[1]), _hand_on(behind[0], before[1])]
            await asyncio.wait(
                [asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            before[1].close()
            behind[1].close()


async def _first_byte(one: socket.socket) -> bytes:
    """What is read first, which stays to be read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(one, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(one)
    return one.recv(1, socket.MSG_PEEK)


async def _streams(one: socket.socket, tls: SSLContext | None) -> Streams:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, one, ssl=tls)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
