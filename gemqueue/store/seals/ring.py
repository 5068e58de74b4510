"""The seals of a queue: the data keys of its tenants, wrapped in Redis, and what is locked and opened under them.

The life of a key. The first value of a tenant that is to be sealed draws one, has it wrapped, and writes it into
``seal:<tenant>`` under its generation; whoever was first there wins. New values take the newest generation, and each
value says its own, so a rotation adds one and touches nothing that is written. A shred takes all generations of a
tenant away and writes down up to which: these are never made again, and values under them open for nobody.

Keys are kept in memory for as long as the hash in Redis has them, which is looked at again after ten seconds of use.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.errors import SealError
from gemqueue.extras import need
from gemqueue.ids import split_key
from gemqueue.policy.holds import withheld
from gemqueue.sealing import box
from gemqueue.sealing.wrapping import KeyTexts, has_key, unwrapped, wrapped, wrapped_by, wrapper_of
from gemqueue.store import calls
from gemqueue.store.groups import Wrapped
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from gemqueue.config import Settings
    from gemqueue.records import Hold, Note
    from gemqueue.sealing.wrapping import KeyWrapper
    from gemqueue.store.groups import Landing
    from gemqueue.store.scripts import Scripts

Dead = tuple[str, str, str, str, str]
"""Key, lane, kind, message and body of a dead letter."""

NAMES: Final = "+names"
"""Whose key makes the digests of names. It has one generation: what is digested must stay comparable."""
QUEUE: Final = "+queue"
"""Whose key seals what belongs to no tenant: rows of nobody, and the provider's words about batches."""
SEALED_RECORD: Final = 4
"""``v`` of a record that has had a sealed segment (``SEALED`` of ``store/lua/_core.lua``)."""
_FRESH_S: Final = 10.0
_TRIES: Final = 8
_DIGEST_DIGITS: Final = 32
_NAME_MARK: Final = "#"
_DIGEST_MARK: Final = "#"
_UNSEALED: Final = (
    "this queue is sealed, and this process is not: set seal = true (GEMQUEUE_SEAL=1) and give it the key "
    "(docs/sealing.md)"
)


class Generations(msgspec.Struct):
    """A tenant's hash: its wrapped keys by generation, up to which they were destroyed, and which keys wrapped them."""

    wrapped: dict[int, bytes] = {}
    shredded: int = 0
    shredded_at: int = 0
    by: str = ""

    @property
    def newest(self) -> int:
        """The generation for new values; 0 where there is none."""
        return max((number for number in self.wrapped if number > self.shredded), default=0)


class _Ring(msgspec.Struct):
    """What this process knows of a tenant's keys, and since when."""

    generations: Generations
    read_at: float
    ciphers: dict[int, AESGCM] = {}


def generations_of(raw: dict[bytes, bytes]) -> Generations:
    """A tenant's hash as Redis has it."""
    return Generations(
        wrapped={int(field): value for field, value in raw.items() if field.isdigit()},
        shredded=int(raw.get(b"shredded", b"0")),
        shredded_at=int(raw.get(b"shredded_at", b"0")),
        by=raw.get(b"by", b"").decode(),
    )


class Seals:
    """Locks and opens the values of one queue; without ``seal = true`` it hands them through as they are."""

    def __init__(self, scripts: Callable[[], Scripts], key: Callable[..., str], settings: Settings) -> None:
        if settings.seal:
            need("seal", "seal = true")
        self.on = settings.seal
        self.given: KeyWrapper | None = None
        """A wrapper that the caller made itself, instead of the settings'."""
        self._scripts_of = scripts
        self._key = key
        self._entry = settings.seal_wrapper
        self._made: KeyWrapper | None = None
        self._rings: dict[str, _Ring] = {}
        self._names: bytes = b""
        self._lock = asyncio.Lock()

    @property
    def _scripts(self) -> Scripts:
        return self._scripts_of()

    @property
    def _redis(self) -> Any:
        return self._scripts.client

    @property
    def _url(self) -> str:
        return self._scripts.url

    @property
    def wrapper(self) -> KeyWrapper:
        """Who wraps the keys. Raises SealError where nobody is named."""
        if self._made is None:
            self._made = self.given or wrapper_of(self._entry)
        return self._made

    # --- whether it works here ---

    async def begin(self) -> None:
        """Have this process able to read and write the queue. Raises SealError where it is sealed, and this is not."""
        if self.on:
            await self._names_key()
            return
        with translated(self._url):
            if await self._redis.exists(self._key("seal", NAMES)):
                raise SealError(_UNSEALED)

    def check(self, v: int) -> None:
        """Raise SealError where a record of this layout holds sealed segments, and nothing is sealed here."""
        if v >= SEALED_RECORD and not self.on:
            raise SealError(_UNSEALED)

    # --- values ---

    async def shut(self, kind: str, id_: str, tenant: str, value: bytes) -> bytes:
        """The value as it goes to Redis: sealed where the setting says so. Raises SealError."""
        if not self.on:
            return value
        generation, cipher = await self._newest(tenant)
        return box.lock(cipher, tenant, generation, f"{kind} {id_}", value)

    async def open(self, kind: str, id_: str, value: bytes) -> bytes:
        """The value as it was written, sealed or not.

        Raises SealError where the key cannot be had here; ValueError where it was destroyed, or where the value was
        changed, cut short or moved here from elsewhere.
        """
        head = box.head_of(value)
        if head is None:
            return value
        if not self.on and not (self.given or has_key(self._entry)):
            raise SealError(_UNSEALED)
        return box.unlock(await self._cipher(head.tenant, head.generation), head, f"{kind} {id_}", value)

    async def open_all(self, kind: str, values: Iterable[tuple[str, bytes | None]]) -> list[bytes | None]:
        """Values by id, as they were written; one that will never open stays sealed, so that nobody can read it."""
        found: list[bytes | None] = []
        for id_, value in values:
            opened = value
            if value is not None and box.is_sealed(value):
                with suppress(ValueError):
                    opened = await self.open(kind, id_, value)
            found.append(opened)
        return found

    async def shut_text(self, kind: str, id_: str, tenant: str, text: str) -> str:
        """As ``shut``, for a field of text."""
        return box.as_text(await self.shut(kind, id_, tenant, text.encode())) if self.on and text else text

    async def open_text(self, kind: str, id_: str, text: str) -> str:
        """As ``open``, for a field of text."""
        value = box.from_text(text)
        return text if value is None else (await self.open(kind, id_, value)).decode()

    async def shut_landing(
        self, tenants: Mapping[str, str], landings: list[Landing], dead: Sequence[Dead]
    ) -> tuple[list[Landing], list[Dead]]:
        """What lands of each segment, and who is buried of it, for the tenant that it is of."""
        landed = [
            each._replace(blob=await self.shut("outcomes", each.segment, tenants[each.segment], each.blob))
            for each in landings
        ]
        buried: list[Dead] = []
        for key, lane, kind, message, body in dead:
            tenant = tenants[split_key(key)[0]]
            said = await self.shut_text("message", key, tenant, message)
            buried.append((key, lane, kind, said, await self.shut_text("dead", key, tenant, body)))
        return landed, buried

    # --- what others say, which may quote a prompt ---

    def kept(self, note: Note | None) -> dict[str, str | int]:
        """A note's fields as a batch's record has them."""
        fields = note.fields() if note is not None else {}
        return fields | {"operation": ""} if self.on and "operation" in fields else fields

    def said(self, hold: Hold) -> Hold:
        """Why something waits, as a record has it."""
        return withheld(hold) if self.on else hold

    # --- names ---

    async def name(self, account: str, name: str) -> str:
        """What Redis knows a prompt's name by: itself, or a digest that only the queue's key makes."""
        return f"{_NAME_MARK}{await self._keyed(f'{account}/{name}')}" if self.on else name

    async def digest(self, digest: str) -> str:
        """The digest of what a prompt asks, as it stands beside its name."""
        return f"{_DIGEST_MARK}{await self._keyed(digest)}" if self.on else digest

    async def sealed_settings(self, text: str) -> str:
        """A run's settings as they are compared: JSON whose texts are digests where it is sealed."""
        if not self.on:
            return text
        fields: dict[str, Any] = msgspec.json.decode(text)
        for name in ("config", "template"):
            if fields.get(name):
                asked = msgspec.json.encode(fields[name], order="sorted").decode()
                fields[name] = f"sealed {await self._keyed(asked)}"
        return msgspec.json.encode(fields, order="sorted").decode()

    async def _keyed(self, text: str) -> str:
        key = await self._names_key()
        return hmac.digest(key, text.encode(), "sha256").hex()[:_DIGEST_DIGITS]

    async def _names_key(self) -> bytes:
        if not self._names:
            generations = await self._with_key(NAMES)
            self._names = await unwrapped(self.wrapper, generations.wrapped[generations.newest], NAMES)
        return self._names

    # --- keys ---

    async def _newest(self, tenant: str) -> tuple[int, AESGCM]:
        ring = self._rings.get(tenant)
        now = asyncio.get_running_loop().time()
        if ring is None or now - ring.read_at > _FRESH_S or not ring.generations.newest:
            ring = await self._read(tenant, make=True)
        generation = ring.generations.newest
        return generation, ring.ciphers.get(generation) or await self._unwrap(tenant, ring, generation)

    async def _cipher(self, tenant: str, generation: int) -> AESGCM:
        ring = self._rings.get(tenant)
        now = asyncio.get_running_loop().time()
        if ring is None or now - ring.read_at > _FRESH_S or generation not in ring.generations.wrapped:
            ring = await self._read(tenant, make=False)
        if generation <= ring.generations.shredded:
            raise ValueError(f"the key of tenant {tenant} was destroyed (gemqueue admin shred): nobody can read it")
        if generation not in ring.generations.wrapped:
            raise SealError(
                f"Redis has no generation {generation} of the key of {tenant}: it lost it, or a backup was restored "
                "without it; `gemqueue admin seal import` brings exported keys back"
            )
        return ring.ciphers.get(generation) or await self._unwrap(tenant, ring, generation)

    async def _read(self, tenant: str, *, make: bool) -> _Ring:
        """What Redis has of the tenant's keys; those that are still there keep their ciphers."""
        generations = await (self._with_key(tenant) if make else self.generations(tenant))
        before = self._rings.get(tenant)
        known = before.ciphers if before is not None else {}
        ciphers = {n: cipher for n, cipher in known.items() if n in generations.wrapped and n > generations.shredded}
        ring = self._rings[tenant] = _Ring(generations, asyncio.get_running_loop().time(), ciphers)
        return ring

    async def _unwrap(self, tenant: str, ring: _Ring, generation: int) -> AESGCM:
        async with self._lock:  # a KMS is asked once
            if generation not in ring.ciphers:
                key = await unwrapped(self.wrapper, ring.generations.wrapped[generation], tenant)
                ring.ciphers[generation] = box.cipher_of(key)
        return ring.ciphers[generation]

    async def generations(self, tenant: str) -> Generations:
        """The tenant's keys as Redis has them."""
        with translated(self._url):
            return generations_of(await self._redis.hgetall(self._key("seal", tenant)))

    async def _with_key(self, tenant: str) -> Generations:
        """The same, with one for new values."""
        for _ in range(_TRIES):
            found = await self.generations(tenant)
            if found.newest:
                return found
            await self.add_generation(tenant, found.shredded + 1)
        raise SealError(f"the key of {tenant} is destroyed again and again while it is made: try again later")

    async def add_generation(self, tenant: str, number: int) -> None:
        """Write a new key under this number, unless there is one."""
        value = await wrapped(self.wrapper, box.new_key(), tenant)
        with translated(self._url):
            await self._redis.hsetnx(self._key("seal", tenant), str(number), value)

    # --- what an operator does with them ---

    async def tenants(self) -> list[str]:
        """Who has keys, or had some, sorted; the queue's own among them."""
        prefix = self._key("seal", "")
        with translated(self._url):
            found: list[bytes] = [key async for key in self._redis.scan_iter(match=f"{prefix}*", count=1000)]
        return sorted(key.decode().removeprefix(prefix) for key in found)

    def wrappers_of(self, generations: Generations) -> list[str]:
        """The ids of the keys that have ever wrapped these, where keys of a file or a variable did; sorted."""
        now = map(wrapped_by, generations.wrapped.values()) if isinstance(self.wrapper, KeyTexts) else ()
        return sorted({*generations.by.split(), *now})

    async def rewrap(self, tenant: str) -> int:
        """Have the tenant's keys wrapped by the wrapper as it is now; how many. Raises SealError."""
        found = await self.generations(tenant)
        changes: list[Wrapped] = []
        for number, old in found.wrapped.items():
            key = await unwrapped(self.wrapper, old, tenant)
            changes.append(Wrapped(number, old, await wrapped(self.wrapper, key, tenant)))
        reply = await self._scripts.run(calls.Rewrap(tenant, " ".join(self.wrappers_of(found)), changes))
        return int(reply[1])

    async def rotate(self, tenant: str) -> None:
        """New values of the tenant take a new key from now on, within ten seconds in other processes."""
        if tenant != NAMES and (newest := (await self.generations(tenant)).newest):
            await self.add_generation(tenant, newest + 1)

    async def shred(self, tenant: str) -> None:
        """Destroy every key that the tenant has in Redis."""
        found = await self.generations(tenant)
        await self._scripts.run(calls.Shred(tenant, " ".join(self.wrappers_of(found))))
        self._rings.pop(tenant, None)

    async def bring_back(self, tenant: str, kept: Generations) -> int:
        """Keys from an export that Redis lacks, or has in a form that does not open here; how many came back.

        What the export says was destroyed is destroyed again.
        """
        found = await self.generations(tenant)
        if kept.shredded > found.shredded:
            await self.shred(tenant)
            found = await self.generations(tenant)
        changes = [
            Wrapped(number, found.wrapped.get(number, b""), value)
            for number, value in kept.wrapped.items()
            if await self._opens(value, tenant) and not await self._opens(found.wrapped.get(number, b""), tenant)
        ]
        return int((await self._scripts.run(calls.Rewrap(tenant, kept.by, changes)))[1]) if changes else 0

    async def _opens(self, value: bytes, tenant: str) -> bool:
        with suppress(SealError):
            return bool(value and await unwrapped(self.wrapper, value, tenant))
        return False
