"""What goes over the data channels of a LiveKit room, both ways. PURE.

`RoomData` outlives connections: it gives each packet its number, keeps the order over cuts,
and knows which of the others' packets it has seen. Time goes in as ``now`` (seconds of any
steady clock); what is to be done comes out of `poll`, which is called after every input and
at `next_deadline`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from livekit.protocol import models

from bridge.room import convention
from bridge.room.seam import RoomError
from bridge.room.signal.lane import Lane
from bridge.room.signal.rpc import (
    RpcAsked,
    RpcExpired,
    RpcKey,
    RpcOutput,
    RpcReply,
    RpcServer,
)
from bridge.room.signal.streams import TextReceived, TextStreams

RELIABLE: Final = "_reliable"
LOSSY: Final = "_lossy"
"""Labels of the data channels."""

RECEIVE_LIMIT: Final = 64 * 1024
"""Bytes of one message that is looked at."""

SENDER_LIMIT: Final = 256
"""Participants whose last number is remembered."""

CREDITOR_LIMIT: Final = 64
OWED_LIMIT: Final = 256
"""Participants that messages are owed to, and how many to each."""

_RPC_REQUEST_TOPIC: Final = "lk.rpc_request"
_RPC_REQUEST_ID: Final = "lk.rpc_request_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendData:
    """Give the transport one message for our channel *label*."""

    label: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSent:
    """The message of this ticket was given to the transport."""

    ticket: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFailed:
    """The message of this ticket is given up."""

    ticket: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserReceived:
    """A participant sent data (``identity`` is empty for the server's own API)."""

    identity: str
    topic: str
    payload: bytes
    reliable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DtmfReceived:
    """A participant sent one key."""

    identity: str
    digit: str


Output = (
    SendData
    | DataSent
    | DataFailed
    | UserReceived
    | DtmfReceived
    | TextReceived
    | RpcAsked
    | RpcExpired
)


class RoomData:
    """One call's data in its room. Raises only for misuse and what cannot be sent.

    *methods* are the RPC methods that we serve, *topics* those of text streams that somebody
    wants.
    """

    def __init__(self, methods: Collection[str] = (), topics: Collection[str] = ()) -> None:
        self._identity = ""
        self._lane = Lane()
        self._rpc = RpcServer(methods)
        self._streams = TextStreams(topics)
        self._senders: OrderedDict[str, int] = OrderedDict()
        self._owed: OrderedDict[str, list[models.UserPacket]] = OrderedDict()
        self._outputs: list[Output] = []
        self.ignored = 0  # packets that were not understood, of no kind of ours, or repeated

    # The connection.

    def joined(self, identity: str) -> None:
        """We are a new participant: at a join and at each rejoin.

        What waits to be sent still waits; requests that ran for the one before expire.
        """
        self._identity = identity
        self._lane.renew()
        self._senders.clear()
        self._outputs += self._streams.clear()
        self._pass_on(self._rpc.forget())

    def lose(self, others: Sequence[str]) -> None:
        """The participant that we were is no more, and *others* were with it.

        What we had sent and nobody may have got is owed to them: each is sent it when we know
        it to be there again (`present`).
        """
        for packet in self._lane.missed():
            for identity in packet.destination_identities or others:
                owed = self._owed.setdefault(identity, [])
                owed.append(packet.user)
                del owed[:-OWED_LIMIT]
        while len(self._owed) > CREDITOR_LIMIT:
            self._owed.popitem(last=False)

    def present(self, identity: str) -> None:
        """*identity* is in the room: send what we owe it, before anything that waits."""
        for user in self._owed.pop(identity, ()):
            again = models.UserPacket(
                payload=user.payload, topic=user.topic, destination_identities=[identity]
            )
            self._lane.put_first(self._packet([identity], user=again))

    def forget(self) -> None:
        """We leave: nothing is owed to anybody any more."""
        self._lane.missed()
        self._owed.clear()

    def delivered(self, label: str, count: int) -> None:
        """The far end has *count* more of our messages on channel *label*."""
        if label == RELIABLE:
            self._lane.delivered(count)

    @property
    def under_way(self) -> int:
        """How many of our messages left and are not known to have been delivered."""
        return self._lane.under_way

    def channel_opened(self) -> None:
        """Our reliable channel stands."""
        self._lane.open()

    def channel_closed(self) -> None:
        """The transport of our channels is gone."""
        self._lane.shut()

    def hold(self) -> None:
        """The room reconnects: messages wait. RPCs are answered as long as the channel stands."""
        self._lane.hold()

    def release(self) -> None:
        """The room is back."""
        self._lane.release()

    def resumed(self, last_message: int) -> None:
        """The server took the same participant back: its ``ReconnectResponse.last_message_seq``.

        To be called before `release`.
        """
        self._lane.resumed(last_message)

    def receive_states(self) -> list[tuple[str, int]]:
        """Return participant SID and last number of those heard, for ``SyncState``."""
        return list(self._senders.items())

    def fail_waiting(self) -> None:
        """Give up what waits (`DataFailed`): the room is lost, others may be in the next one."""
        self._outputs += [DataFailed(ticket=one) for one in self._lane.fail_waiting()]

    def leave(self) -> None:
        """Tell those whose requests run that we leave; sent only if the channel still stands.

        What others are saying ends here.
        """
        self._outputs += self._streams.clear()
        self._pass_on(self._rpc.leave())

    # What we send.

    def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> int:
        """Send a reliable message to all or to the identities in *to*; return its ticket.

        It is sent twice rather than not at all. Raises `RoomError` for one that is too large,
        or when too much waits.
        """
        user = models.UserPacket(payload=payload, topic=topic, destination_identities=to)
        return self._lane.put(self._packet(to, user=user), surely=True)

    def publish_dtmf(self, digit: str) -> int:
        """Send one key to all, never twice; return the ticket.

        Raises `RoomError` for what is no key.
        """
        code = convention.dtmf_code(digit)
        if code is None:
            msg = "no such key"
            raise RoomError(msg)
        dtmf = models.SipDTMF(code=code, digit=digit.upper())
        return self._lane.put(self._packet((), sip_dtmf=dtmf))

    def answer(self, key: RpcKey, payload: str) -> None:
        """Respond to a request with what its handler returned."""
        self._pass_on(self._rpc.answer(key, payload))

    def refuse(self, key: RpcKey, code: int, text: str = "") -> None:
        """Respond to a request with an error."""
        self._pass_on(self._rpc.refuse(key, code, text))

    def _packet(
        self,
        to: Sequence[str],
        user: models.UserPacket | None = None,
        sip_dtmf: models.SipDTMF | None = None,
    ) -> models.DataPacket:
        return models.DataPacket(
            kind=models.DataPacket.RELIABLE,
            participant_identity=self._identity,
            destination_identities=to,
            user=user,
            sip_dtmf=sip_dtmf,
        )

    # What comes.

    def receive(self, label: str, data: bytes, now: float) -> None:
        """Take one message of a data channel, whoever opened it."""
        if label not in {RELIABLE, LOSSY} or len(data) > RECEIVE_LIMIT:
            self.ignored += 1
            return
        try:
            packet = models.DataPacket.FromString(data)
        except DecodeError:
            self.ignored += 1
            return
        if label == RELIABLE and not self._is_new(packet):
            self.ignored += 1
            return
        self._take(packet, now, reliable=label == RELIABLE)

    def _is_new(self, packet: models.DataPacket) -> bool:
        """Tell whether a packet was not seen before; without a number it always is.

        The server gives the numbers of one sender in rising order, and after a resume it may
        repeat what it does not know to have arrived.
        """
        sender, sequence = packet.participant_sid, packet.sequence
        if not sender or not sequence:
            return True
        if sequence <= self._senders.get(sender, 0):
            return False
        self._senders[sender] = sequence
        self._senders.move_to_end(sender)
        if len(self._senders) > SENDER_LIMIT:
            self._senders.popitem(last=False)
        return True

    def _take(self, packet: models.DataPacket, now: float, *, reliable: bool) -> None:
        identity = packet.participant_identity
        match packet.WhichOneof("value"):
            case "user":
                user = packet.user
                received = UserReceived(
                    identity=identity, topic=user.topic, payload=user.payload, reliable=reliable
                )
                self._outputs.append(received)
            case "sip_dtmf":
                digit = convention.dtmf_digit(packet.sip_dtmf.code, packet.sip_dtmf.digit)
                if digit is not None:
                    self._outputs.append(DtmfReceived(identity=identity, digit=digit))
            case "rpc_request":
                self._pass_on(self._rpc.request(identity, packet.rpc_request, now))
            case "stream_header":
                self._header(packet, now)
            case "stream_chunk":
                self._streams.chunk(packet.participant_sid, packet.stream_chunk, now)
            case "stream_trailer":
                sender = packet.participant_sid
                self._told(self._streams.trailer(sender, packet.stream_trailer, now))
            case _:  # transcription, chat, metrics, acknowledgements of calls we never make
                self.ignored += 1

    def _header(self, packet: models.DataPacket, now: float) -> None:
        identity, header = packet.participant_identity, packet.stream_header
        if header.topic == _RPC_REQUEST_TOPIC:
            request = header.attributes.get(_RPC_REQUEST_ID, "")
            self._pass_on(self._rpc.refuse_stream(identity, request))
        else:
            sender = packet.participant_sid
            self._told(self._streams.header(sender, header, now, identity=identity))

    def _told(self, text: TextReceived | None) -> None:
        if text is not None:
            self._outputs.append(text)

    def _pass_on(self, outputs: Sequence[RpcOutput]) -> None:
        for output in outputs:
            if isinstance(output, RpcReply):
                output.packet.participant_identity = self._identity
                self._lane.reply(output.packet)
            else:
                self._outputs.append(output)

    # Time.

    def poll(self, now: float) -> list[Output]:
        """Return what is to be done, in order."""
        self._pass_on(self._rpc.poll(now))
        self._outputs += self._streams.poll(now)
        outputs, self._outputs = self._outputs, []
        for leaving in self._lane.take(now):
            outputs.append(SendData(label=RELIABLE, data=leaving.data))
            if leaving.ticket is not None:
                outputs.append(DataSent(ticket=leaving.ticket))
        return outputs

    def next_deadline(self) -> float | None:
        """Return when to `poll` even if nothing happens."""
        deadlines = (
            self._rpc.next_deadline(),
            self._streams.next_deadline(),
            self._lane.next_deadline(),
        )
        return min((one for one in deadlines if one is not None), default=None)

    @property
    def waiting(self) -> int:
        """The number of messages that wait."""
        return self._lane.waiting

    @property
    def lost(self) -> int:
        """Packets that a resume asked for and that were kept no more."""
        return self._lane.lost
