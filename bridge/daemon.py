"""The one place that builds everything: start, ready, drain, reload, stop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI

from bridge.adapters import (
    Ledger,
    LegDesk,
    RoomDesk,
    next_hop_of,
    registration_of,
    trunk_question,
)
from bridge.api.auth import Gatekeeper
from bridge.api.server import ApiServer
from bridge.books import Books
from bridge.call.crash import end_after_crash
from bridge.call.service import CallService
from bridge.call.switchboard import Switchboard
from bridge.changes import Changes, changes
from bridge.config.advice import advice, cannot_start, not_yet
from bridge.config.config import Config
from bridge.config.loading import ConfigError
from bridge.config.trunk import TrunkConfig
from bridge.config.values import is_loopback
from bridge.ears import Ears, HeardRooms
from bridge.engines import clocks_of, engine_of, uses_sdk
from bridge.errors import BridgeError
from bridge.events import CallEvent
from bridge.feed import EventLog, Feed
from bridge.fleet import Fleet
from bridge.from_config import beside, captures_of, certificates_of, keys_of, read
from bridge.front import front
from bridge.journal.entries import Entry, OpenCall
from bridge.journal.journal import Journal
from bridge.ladders import Ladders
from bridge.media.ports import Ports
from bridge.observe.lag import LoopLag, TurnLag
from bridge.observe.metrics import Gauges, Metrics
from bridge.observe.probing import Probing
from bridge.observe.sip_count import Taps
from bridge.observe.systemd import ClockSign, Unit
from bridge.queue.sweeper import Orphan
from bridge.recordings import recordings_of
from bridge.registrations import Registrations
from bridge.room import joining, sdk
from bridge.room.dispatch import RoomService
from bridge.room.tokens import LiveKitKeys
from bridge.sessions.sessions import Sessions
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import SipEvent
from bridge.sip.flow import Flow
from bridge.sip.parameters import EndpointConfig
from bridge.transcript.desk import Transcripts
from bridge.transport.certificates import Certificates
from bridge.trunk.admission import Admission
from bridge.trunk.gate import Gate
from bridge.trunk.overload import Overload
from bridge.ua.tap import Ladder
from bridge.ua.user_agent import UserAgent

_log = structlog.get_logger(__name__)

_HEALTH_INTERVAL = 5.0
_UNREGISTER = 2.0  # seconds for the answers to REGISTER with Expires 0
_GOODBYE = 10.0  # seconds for BYE, call_ended and the leaving of rooms


class Daemon:
    """One bridge. Build it in a running loop, `start` it, and `stop` it in the end.

    *path* is the configuration's file, for `reload`; *on_event* hears every published
    event after the journal and the room; *unit* is told how the process is (systemd).
    """

    def __init__(
        self,
        config: Config,
        *,
        path: Path | None = None,
        on_event: Callable[[CallEvent], None] = lambda _: None,
        unit: Unit | None = None,
        serve_http: bool = True,
    ) -> None:
        blockers = cannot_start(config)
        if blockers:
            raise BridgeError("\n".join(blockers))
        certificates = Certificates.load(config)
        for line in certificates.unfit:
            _log.warning("tls.certificate_unfit", setting=line)
        self._config = config
        self._path = path
        self._unit = unit or Unit.nobodys()
        self.serves_http = serve_http
        keys = LiveKitKeys(
            api_key=config.livekit.api_key,
            api_secret=config.livekit.api_secret.get_secret_value(),
        )
        self._journal = Journal(
            beside(config.store.journal, path, self._unit.state),
            instance=config.store.instance_name,
            mask_numbers=config.privacy.mask_numbers,
        )
        self._keys = keys
        self._books = Books(
            config, self._journal, self._journal.path.parent, version=version("trunkbridge")
        )
        self._server_api = RoomService(config.livekit.url, keys)
        self._transcripts = Transcripts(self._journal)
        self._rooms = RoomDesk(
            self._server_api,
            config.livekit.url,
            keys,
            in_use=lambda room: self.service.uses_room(room) or self.sessions.uses_room(room),
        )
        advertised = [a for a in (config.media.advertise, config.sip.advertise) if a]
        self._ports = Ports(config.media.ports, own=advertised)
        self._engine = engine_of(config.media, self._ports)
        self._admission = Admission(config.trunk)
        self._endpoint = Endpoint(
            EndpointConfig(
                user_agent=config.sip.user_agent,
                advertise=config.sip.advertise,
                # The service refuses at max_calls, with a record; this is for floods.
                max_sessions=config.sip.max_calls + 1000,
            ),
            tokens=lambda: secrets.token_hex(12),
            next_hop_allowed=lambda host, trunk: self._agent.next_hop_allowed(host, trunk),
            unknown_reject=self._answers_strangers,
            screen=lambda request, flow, now: self._agent.screen(request, flow, now),
        )
        self.ladder = Ladder()
        self.metrics = Metrics(
            config.trunk,
            version=version("trunkbridge"),
            gauges=self._gauges,
            heard_at=lambda: self._agent.heard_at,
        )
        self._captures = captures_of(config, path, self._unit.state)
        self._overload = Overload()
        self._agent = UserAgent(
            self._endpoint,
            self._admission,
            listen=config.sip.addresses,
            on_event=self._on_sip,
            on_probed=lambda probed: self.metrics.probed(
                probed.trunk, probed.status, probed.seconds
            ),
            on_registered=lambda changed: self._registrations.heard(changed),
            on_unreachable=self.metrics.trunks.unreachable,
            certificates=certificates,
            tap=Taps(self.ladder, self.metrics.sip, *self._captures.taps),
            gate=Gate(overloaded=lambda: self._overload.active),
            on_refused=self.metrics.sip_refused,
            screen=lambda request, flow: self.service.screen(request, flow),
        )
        self._probing = Probing(lambda trunk: self._agent.ask_trunk(trunk_question(trunk)))
        self._registrations = Registrations(
            self._agent,
            registration_of,
            told=self.metrics.registration,
            address=self._address_towards,
        )
        ledger = Ledger(self._journal, self.metrics.journalled)
        self._recordings = recordings_of(
            config.recording, self._journal, self._books.store, self._journal.path.parent
        )
        if self._recordings is not None:
            self._books.erased = self._recordings.forget
        self.service = CallService(
            config,
            legs=LegDesk(config, self._agent, self._engine, self._ports, self._transcripts),
            rooms=self._rooms,
            ledger=ledger,
            archive=self._journal,
            claims=self._books.claims,
            publish=self._tell,
            observer=self.metrics,
            recorder=self._recordings,
        )
        self.sessions = Sessions(
            config,
            rooms=HeardRooms(self._server_api, keys, made=lambda call_id: self._ears.made(call_id)),
            ledger=ledger,
            archive=self._journal,
            claims=self._books.claims,
            publish=self._tell,
            in_use=lambda room: self.service.uses_room(room),
            calls_of=lambda who: self.service.made_by(who),
        )
        self._ears = Ears(
            self._transcripts,
            self.sessions,
            self._books.store,
            self._books.projection,
            self._server_api,
            config.livekit.url,
            keys,
        )
        self._feeds: list[Feed] = []
        self.switchboard = Switchboard(
            self.service, self._journal, self, self.ladder.of, self.sessions
        )
        self._ladders = Ladders(self._journal, self.switchboard.rungs)
        self._listeners = [
            self._ears.told,
            on_event,
            self._ladders.tell,
        ]
        self._fleet = Fleet(
            config,
            self._books.store,
            self._journal,
            ledger,
            self.service,
            self.switchboard,
            tell=self._tell,
            ended_after_crash=self.metrics.ended_after_crash,
            adopt=self._adopt,
        )
        self._reloading = asyncio.Lock()
        self._gatekeeper = Gatekeeper(keys_of(config), config.http.jwt_secret.get_secret_value())
        self._api: ApiServer | None = None
        self._clock_signs = [ClockSign(clock) for clock in clocks_of(self._engine)]
        self._turn_lag = TurnLag(clocks_of(self._engine))
        self._lag = LoopLag(self._lagged)
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def _adopt(self, orphan: Orphan) -> bool:
        """Go on with a web call whose instance is gone."""
        return await self.sessions.adopt(
            orphan.call_id,
            created_at=orphan.created_at,
            seq=orphan.seq,
            record=orphan.record,
            private=orphan.private,
        )

    def _keep_alive(self) -> None:
        wanted = (trunk.name for trunk in self._config.trunk if trunk.keepalive == "crlf")
        self._agent.keep_alive(frozenset(wanted))

    def _address_towards(self, trunk: TrunkConfig) -> str | None:
        """Our address as the carrier of *trunk* sees it; None when it is configured."""
        if self._config.sip.advertise:
            return None
        return self._agent.local_address_for(*next_hop_of(trunk))

    def _lagged(self, late: float, stolen: float) -> None:
        """Take how late the loop was, and with it how late the media clocks' turns were."""
        self.metrics.lagged(late)
        if self._overload.measured(late, stolen=stolen, media=self._turn_lag.since()):
            if self._overload.active:
                _log.warning("overload.began", late_ms=round(late * 1000))
            else:
                _log.info("overload.over")

    def _answers_strangers(self, flow: Flow) -> bool:
        """Whether a source that may not call is told so: a trunk of it says ``reject = "403"``."""
        trunks = (self._config.trunk_named(name) for name in flow.trunks)
        return any(trunk is not None and trunk.reject == "403" for trunk in trunks)

    def follow(self, log: EventLog | None = None) -> Feed:
        """Return one more feed of all events, for readers on another loop than the API's.

        Those in *log*, else this instance's.
        """
        feed = Feed(log or self._journal)
        self._feeds.append(feed)
        self._listeners.append(feed.tell)
        return feed

    def _tell(self, event: CallEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # one listener's bug is no other's
                _log.exception("daemon.listener_failed", call_id=event.call_id)

    def _on_sip(self, event: SipEvent) -> None:
        self.service.on_sip(event)

    async def start(self) -> None:
        """Listen and serve. Raises `BridgeError` when an address is taken."""
        for line in not_yet(self._config):
            _log.warning("config.not_yet", setting=line)
        for line in advice(self._config):
            _log.warning("config.advice", setting=line)
        try:
            self._start_captures()
            up = await self._server_api.alive()
            self.service.set_livekit_up(up)
            self.sessions.set_livekit_up(up)
            if uses_sdk(self._config.media):
                await sdk.warm_up()
            await self._engine.start()
            await self._books.open()
            if self._recordings is not None:
                await self._recordings.start()
            left = self._journal.open_calls()  # before the first call of this life
            await self._agent.start()
            self._books.start()
            kept = await self._fleet.take_up(left)
            ours = [call for call in left if call.call_id not in kept]
            await self._end_crashed_calls(self.sessions.take_up(ours))
            self._fleet.start()
            self.sessions.start()
            self._ears.start()
            if self.serves_http:
                await self._serve_http()
        except BaseException:
            await self.stop()
            raise
        self._lag.start()
        self._spawn(self._watch_livekit())
        self._spawn(self.metrics.watch())
        self._probing.start(self._config.trunk)
        self._keep_alive()
        self._registrations.start(self._config.trunk)
        _log.info("daemon.started", sip=self.sip_addresses, http=self.http_address)
        self._unit.start(dead=self._dead_parts, status=self._status)

    def _start_captures(self) -> None:
        try:
            self._captures.start()
        except OSError as failure:
            raise BridgeError(
                f"capture.pcap: {failure.strerror}, allowed: a folder to write in"
            ) from failure

    def app(self, gatekeeper: Gatekeeper) -> FastAPI:
        """Return the API over this daemon, for whom *gatekeeper* lets in; on the calls' loop."""
        store = self._books.store
        return front(
            self._config,
            self.switchboard,
            gatekeeper,
            self.follow(),
            everywhere=self.follow(store) if store.shared else None,
            version=version("trunkbridge"),
            metrics=self.metrics,
            keys=self._keys,
            books=self._books,
            fleet=self._fleet,
            web=self.sessions,
            said=self._transcripts,
            recordings=self._recordings,
        )

    async def _serve_http(self) -> None:
        app = self.app(self._gatekeeper)
        self._api = ApiServer(app, self._config.http.host, self._config.http.port)
        await self._api.start()
        await self._books.warm_up()
        await self._api.answers()  # the first request builds what every later one uses

    @property
    def sip_addresses(self) -> list[str]:
        """Where SIP is heard, as ``transport:host:port``, with the real ports."""
        return [str(bound) for bound in self._agent.bound]

    @property
    def http_address(self) -> str:
        """Where HTTP is served; nothing when it is not."""
        if self._api is None:
            return ""
        host, port = self._api.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    # Drain, reload, stop.

    @property
    def store_up(self) -> bool:
        """Whether the store took what it was given last."""
        return self._books.projection.well

    def drain(self) -> None:
        """Take no new calls (503); running ones go on. Again: nothing more."""
        if self._draining:
            return
        self._draining = True
        _log.info("daemon.draining", calls=len(self.service.running))
        # The service refuses new calls, each with a record; the SIP core's OPTIONS says 503.
        self.service.drain()
        self.sessions.drain()
        self._agent.set_draining(draining=True)

    async def until_idle(self, timeout: float) -> bool:
        """Wait for the running calls; False when *timeout* seconds pass first."""
        return await self.service.until_idle(timeout)

    async def hang_up_all(self) -> None:
        """End every call with reason ``shutdown`` and wait until they are gone."""
        self.service.shut_down()
        if not await self.service.until_idle(_GOODBYE):
            _log.warning("daemon.calls_left", calls=len(self.service.running))

    def reload(self) -> Changes:
        """Re-read trunks, routes, workflows and keys; return what changed.

        Raises `ConfigError`; then nothing changed.
        """
        with self._reload_told():
            return self.take(*read(self._path))

    async def reread(self) -> dict[str, list[str]]:
        """`reload` without stopping the loop for it; as the API tells it."""
        async with self._reloading:
            with self._reload_told():
                return self.take(*await asyncio.to_thread(read, self._path)).as_dict()

    @contextlib.contextmanager
    def _reload_told(self) -> Iterator[None]:
        """Tell systemd and the metrics of a reload and of how it went."""
        try:
            with self._unit.reload():
                yield
        except ConfigError:
            self.metrics.reloaded(ok=False)
            raise
        self.metrics.reloaded(ok=True)

    def take(self, config: Config, certificates: Certificates | None = None) -> Changes:
        """Put *config* in force as far as that needs no restart. Raises `ConfigError`.

        *certificates* are the configuration's, read ahead; None: they are read here.
        """
        if certificates is None:
            certificates = certificates_of(config)
        blockers = cannot_start(config)
        open_ = not config.http.key and not self._config.http.jwt_secret.get_secret_value()
        if open_ and self._api is not None and not is_loopback(self._api.address[0]):
            blockers.append("http.key: none, but the API listens beyond loopback until a restart")
        if blockers:
            raise ConfigError(blockers)
        different = changes(self._config, config)
        self._config = config
        self.metrics.reload(config.trunk)
        self._probing.start(config.trunk)
        self._gatekeeper.replace_keys(keys_of(config))
        self._admission = Admission(config.trunk)
        self._agent.reload(self._admission, certificates)
        self._keep_alive()
        self._registrations.start(config.trunk)
        self.service.reload(config)
        self.sessions.reload(config)
        self._fleet.reload(config)
        _log.info("daemon.reloaded", trunks=len(config.trunk), routes=len(config.route))
        return different

    async def stop(self) -> None:
        """Stop everything. Calls that still run are ended first."""
        self._unit.ending()
        await self._fleet.stop()
        await self.hang_up_all()
        for feed in self._feeds:
            feed.close()  # its readers are told what there is, and let the server stop
        if self._api is not None:
            await self._api.stop()
        self._probing.stop()
        await self._registrations.stop(_UNREGISTER)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lag.stop()
        await self._agent.stop()
        await self._captures.stop()
        await joining.settle(_GOODBYE)  # before its transports are closed with the engine
        await self._engine.stop()
        await joining.settle(_GOODBYE)
        await self._rooms.settle(_GOODBYE)
        await self.sessions.stop()
        await self._ears.stop()
        await self._server_api.close()
        if self._recordings is not None:
            await self._recordings.stop()
        self._ladders.flush()
        await self._books.stop()
        await asyncio.to_thread(self._journal.close)
        _log.info("daemon.stopped")
        await self._unit.stop()

    # What systemd hears of.

    async def _dead_parts(self) -> list[str]:
        """Return what does not live of all that a call needs; the loop lives, it asks."""
        alive = {
            "media clock": not [sign for sign in self._clock_signs if not sign.alive()],
            "sip listeners": self._agent.listening,
            "http listener": not self.serves_http
            or (self._api is not None and await self._api.answers()),
        }
        return [part for part, lives in alive.items() if not lives]

    def _status(self) -> str:
        calls = f"calls: {len(self.service.running)}"
        return f"takes no new calls; {calls}" if self._draining else calls

    async def _gauges(self) -> Gauges:
        """Return what the metrics look up."""
        ready = await self.service.readiness()
        projection = self._books.projection
        store = await asyncio.to_thread(lambda: projection.metrics)
        recordings = self._recordings
        figures = {} if recordings is None else await asyncio.to_thread(recordings.figures)
        clock = self._engine.clock()
        sent = self._books.deliverer.tally
        return Gauges(
            livekit_up=ready["livekit"],
            draining=not ready["accepting"],
            overloaded=self._overload.active,
            journal_writable=ready["journal"],
            journal_waiting=self._journal.waiting,
            store_up=projection.well,
            store_lag=store.lag,
            store_refused=store.refused,
            ports_free=self._ports.available,
            ports_used=self._ports.used,
            ports_resting=self._ports.resting,
            media_calls=clock.calls,
            media_turns=clock.turns,
            media_missed=clock.missed,
            media_late=clock.late,
            capture_dropped=self._captures.dropped(),
            sip_sessions=self._endpoint.occupied,
            sip_connections=self._agent.connections,
            max_calls=self._config.sip.max_calls,
            webhooks={"delivered": sent.delivered, "failed": sent.failed, "dead": sent.dead},
            webhooks_waiting=sent.backlog.waiting,
            webhooks_oldest=sent.backlog.oldest,
            queue_waiting=self._fleet.queue.waiting(),
            web_calls=len(self.sessions.running),
            recordings=figures,
            tls_expiry=self._agent.certificate_expiry,
            tls_failed=self._agent.failed_handshakes,
        )

    # In the background.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch_livekit(self) -> None:
        up = True
        while True:
            alive = await self._server_api.alive()
            if alive != up:
                _log.warning("livekit.up" if alive else "livekit.down")
            up = alive
            self.service.set_livekit_up(up)
            self.sessions.set_livekit_up(up)
            await asyncio.sleep(_HEALTH_INTERVAL)

    async def _end_crashed_calls(self, left: Sequence[OpenCall]) -> None:
        """End this instance's calls that a crash left open, and delete the rooms it made."""
        rooms = []
        for call in left:
            event, record = end_after_crash(
                call.record, call_id=call.call_id, seq=call.last_seq + 1, wall=time.time()
            )
            entry = Entry(
                call_id=call.call_id,
                created_at=call.created_at,
                event=event.as_dict(),
                record=record,
                private=call.private,
                ended=True,
            )
            await self._journal.append([entry])
            self.metrics.ended_after_crash(record, event)
            self._tell(event)
            _log.warning("call.ended_after_crash", call_id=call.call_id)
            room = str(call.record.get("room_name", ""))
            if room == f"call-{call.call_id}" or (call.snapshot or {}).get("room_made"):
                rooms.append(room)
        if rooms:  # LiveKit may be away: nobody waits for it
            self._spawn(self._delete_rooms(rooms))

    async def _delete_rooms(self, rooms: Sequence[str]) -> None:
        for room in rooms:
            with contextlib.suppress(BridgeError):
                await self._server_api.delete_room(room)
