"""Commands for calls of other instances: a row in the store, and a NOTIFY to the owner.

Who is asked about a call that another instance runs writes down what is wanted and waits for
the answer. Only PostgreSQL has several instances; with SQLite nothing here does anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
import structlog

from bridge.call.requests import BadRequest, NotAllowed, NotDone, Unavailable, WrongState
from bridge.errors import BridgeError
from bridge.queue.table import TAKEN
from bridge.queue.tasks import finish
from bridge.store.errors import StoreError
from bridge.store.store import Store
from bridge.store.tables import calls, commands, instances, queue

_log = structlog.get_logger(__name__)

PATIENCE: Final = 10.0  # seconds until an owner that does not answer is given up
_LOOK: Final = 0.5  # seconds between looks that no NOTIFY has asked for
_LISTEN: Final = 5.0  # seconds a listener waits at a time
_KEPT: Final = 3600.0

HANG_UP: Final = "hang_up"

Do = Callable[[str, str, Mapping[str, Any]], Awaitable[bool]]
"""Does a verb to a call of this instance: call, verb, body; False for an unknown call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a call is. ``alive``: its lease holds."""

    instance: str
    ended: bool
    alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    id: int
    call_id: str
    verb: str
    body: Mapping[str, Any]


class Commands:
    """Sends commands to other instances, and does those that are sent here. On the main loop."""

    def __init__(self, store: Store, me: str, do: Do, *, patience: float = PATIENCE) -> None:
        self._store = store
        self._me = me
        self._do = do
        self._patience = patience
        self._shared = not store.database.is_sqlite
        self._answers: dict[int, asyncio.Event] = {}
        self._doing: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen from now on."""
        if not self._shared:
            return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._listen, name="commands", daemon=True)
        self._thread.start()
        self._task = self._loop.create_task(self._run())

    async def stop(self) -> None:
        """Answer nobody any more. The listener's thread ends by itself."""
        self._stopping = True
        self._wake.set()
        await finish(self._task)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Asking.

    async def pass_on(self, call_id: str, verb: str, **body: Any) -> bool | None:
        """Have the owner of a call do *verb*; None when it is nobody else's.

        Raises what the owner's own door would, and `Unavailable` when it does not answer.
        """
        if not self._shared:
            return None
        try:
            owner = await self._store.ask(self._owner, call_id)
        except StoreError as failure:
            raise Unavailable("the store is away: only it knows whose call this is") from failure
        if owner is None or owner.instance == self._me:
            return None
        if owner.ended:
            if verb == HANG_UP:
                return True
            raise WrongState("the call has ended")
        if not owner.alive:
            raise Unavailable("the instance that runs this call does not answer")
        return await self._ask(owner.instance, call_id, verb, body)

    async def _ask(self, owner: str, call_id: str, verb: str, body: Mapping[str, Any]) -> bool:
        try:
            number = await self._store.ask(self._write, owner, call_id, verb, body)
            answered = self._answers.setdefault(number, asyncio.Event())
            answer = await self._answer(number, answered)
        except StoreError as failure:
            raise Unavailable("the store is away: the call's owner cannot be asked") from failure
        return _outcome(answer)

    async def _answer(self, number: int, answered: asyncio.Event) -> Mapping[str, Any]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        try:
            while (left := until - loop.time()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(answered.wait(), min(left, _LOOK))
                answered.clear()
                answer = await self._store.ask(self._read_answer, number)
                if answer is not None:
                    return answer
        finally:
            self._answers.pop(number, None)
        raise Unavailable("the instance that runs this call did not answer")

    def _owner(self, call_id: str) -> Owner | None:
        with self._store.reading() as connection:
            found = connection.execute(
                sa.select(calls.c.instance, calls.c.ended_at).where(calls.c.id == call_id)
            ).first()
            taker = connection.execute(
                sa.select(queue.c.owner).where(queue.c.call_id == call_id, queue.c.state.in_(TAKEN))
            ).scalar()
            name = taker or (None if found is None else found.instance)
            if name is None:
                return None
            alive = connection.execute(
                sa.select(instances.c.name).where(
                    instances.c.name == name, instances.c.lease_until > _now()
                )
            ).first()
        ended = found is not None and found.ended_at is not None
        return Owner(instance=name, ended=ended, alive=alive is not None)

    def _write(self, owner: str, call_id: str, verb: str, body: Mapping[str, Any]) -> int:
        with self._store.writing() as connection:
            number = connection.execute(
                sa.insert(commands)
                .values(
                    instance=owner,
                    call_id=call_id,
                    verb=verb,
                    body=json.dumps({"from": self._me, **body}),
                    created_at=_now(),
                )
                .returning(commands.c.id)
            ).scalar_one()
            _notify(connection, owner, f"do:{number}")
        return int(number)

    def _read_answer(self, number: int) -> Mapping[str, Any] | None:
        with self._store.reading() as connection:
            text = connection.execute(
                sa.select(commands.c.answer).where(
                    commands.c.id == number, commands.c.done_at.is_not(None)
                )
            ).scalar()
        if text is None:
            return None
        answer: Mapping[str, Any] = json.loads(text)
        return answer

    # Doing.

    async def _run(self) -> None:
        away = False
        while not self._stopping:
            try:
                for command in await self._store.ask(self._waiting):
                    if command.id not in self._doing:
                        self._doing.add(command.id)
                        self._spawn(command)
                away = False
            except StoreError as failure:
                if not away:
                    _log.warning("commands.store_away", error=str(failure))
                away = True
            except Exception:  # a row that cannot be read must not end all answers
                _log.exception("commands.broken")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK)
            self._wake.clear()

    def _spawn(self, command: _Command) -> None:
        task = asyncio.get_running_loop().create_task(self._carry_out(command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, command: _Command) -> None:
        try:
            found = await self._do(command.call_id, command.verb, command.body)
            answer: dict[str, Any] = {"found": found}
        except BridgeError as refusal:
            answer = _refusal(refusal)
        except Exception:
            _log.exception("commands.failed", call_id=command.call_id, verb=command.verb)
            answer = {"error": "NotDone", "text": "an error of the bridge that runs the call"}
        _log.info("commands.done", call_id=command.call_id, verb=command.verb)
        try:
            await self._store.ask(self._settle, command, answer)
        except StoreError:
            # Whoever asked gives up by itself. Done it is, and not to be done again while the
            # row is young enough to be read.
            loop = asyncio.get_running_loop()
            loop.call_later(2 * self._patience, self._doing.discard, command.id)
            return
        self._doing.discard(command.id)

    def _waiting(self) -> list[_Command]:
        """Return what is asked of this instance; what is too old its asker has given up."""
        with self._store.reading() as connection:
            rows = connection.execute(
                sa.select(commands.c.id, commands.c.call_id, commands.c.verb, commands.c.body)
                .where(
                    commands.c.instance == self._me,
                    commands.c.done_at.is_(None),
                    commands.c.created_at > _now() - self._patience,
                )
                .order_by(commands.c.id)
                .limit(100)
            ).all()
        return [
            _Command(id=row.id, call_id=row.call_id, verb=row.verb, body=json.loads(row.body))
            for row in rows
        ]

    def _settle(self, command: _Command, answer: Mapping[str, Any]) -> None:
        with self._store.writing() as connection:
            connection.execute(
                sa.update(commands)
                .where(commands.c.id == command.id)
                .values(done_at=_now(), answer=json.dumps(answer), body="{}")
            )
            connection.execute(sa.delete(commands).where(commands.c.created_at < _now() - _KEPT))
            _notify(connection, str(command.body.get("from", "")), f"done:{command.id}")

    # On the listener's thread.

    def _listen(self) -> None:
        pause = threading.Event()
        while not self._stopping:
            try:
                with self._store.engine.connect() as connection:
                    self._hear(connection.execution_options(isolation_level="AUTOCOMMIT"))
                    connection.detach()
            except Exception as failure:  # whatever the driver says; looks go on without it
                _log.debug("commands.not_listening", error=type(failure).__name__)
                pause.wait(_LOOK * 4)

    def _hear(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f'listen "{_channel(self._me)}"')
        driver: Any = connection.connection.driver_connection
        while not self._stopping:
            for notify in driver.notifies(timeout=_LISTEN, stop_after=1):
                assert self._loop is not None
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._heard, notify.payload)

    def _heard(self, payload: str) -> None:
        what, _, number = payload.partition(":")
        if what == "do":
            self._wake.set()
        elif number.isdigit() and int(number) in self._answers:
            self._answers[int(number)].set()


def _now() -> sa.ColumnElement[float]:
    """The database's clock, which all instances share."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)


def _notify(connection: sa.Connection, instance: str, payload: str) -> None:
    connection.execute(sa.select(sa.func.pg_notify(_channel(instance), payload)))


def _channel(instance: str) -> str:
    """Return the channel of an instance: a name is longer than PostgreSQL allows for one."""
    return "trunkbridge_" + hashlib.sha256(instance.encode()).hexdigest()[:24]


_REFUSALS: Final[Mapping[str, Callable[[str], BridgeError]]] = {
    "WrongState": WrongState,
    "NotAllowed": NotAllowed,
    "NotDone": NotDone,
    "Unavailable": Unavailable,
}


def _refusal(refusal: BridgeError) -> dict[str, Any]:
    if isinstance(refusal, BadRequest):
        return {"error": "BadRequest", "field": refusal.field, "text": refusal.text}
    name = type(refusal).__name__
    return {"error": name if name in _REFUSALS else "NotDone", "text": str(refusal)}


def _outcome(answer: Mapping[str, Any]) -> bool:
    """Return what the owner's door returned, or raise what it raised."""
    match answer.get("error"):
        case None:
            return bool(answer.get("found"))
        case "BadRequest":
            raise BadRequest(str(answer["field"]), str(answer["text"]))
        case name:
            raise _REFUSALS.get(str(name), NotDone)(str(answer["text"]))
