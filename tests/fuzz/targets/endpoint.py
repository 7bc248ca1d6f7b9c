"""The whole SIP endpoint: mutated datagrams and streams in every state of a call."""

from __future__ import annotations

from bridge.sip.flow import Flow
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import Script, mutated
from tests.unit.fuzz.rig import STEPS, Rig
from tests.unit.fuzz.stages import STAGES, set_up

MOST_STEPS = 24
TRANSPORTS = ("tcp", "udp")
ROOM = 20_000  # bytes that may go out beyond four times what came in


class MeteredRig(Rig):
    """A rig that measures each input, and how much is said in answer."""

    meter = Meter()
    out = 0

    def sent(self, data: bytes) -> None:
        self.out += len(data)
        super().sent(data)

    def receive(self, data: bytes, flow: Flow) -> None:
        self.out = 0
        with self.meter:
            frames = self.endpoint.receive(data, flow, self.now)
        self.meter.share(len(frames))
        self.run()
        assert self.out <= 4 * len(data) + ROOM, f"{self.out} bytes for {len(data)}"


def endpoint(data: bytes, meter: Meter) -> None:
    """The bytes are decisions: transport, stage, then steps of a hostile far end."""
    script = Script(data)
    transport, stage = script.one_of(TRANSPORTS), script.one_of(STAGES)
    rig = MeteredRig(script, transport)
    rig.meter = meter
    set_up(rig, stage)
    for _ in range(MOST_STEPS):
        if script.at >= len(data):
            break
        step(rig, script)
        rig.check()
    rig.finish()


def step(rig: MeteredRig, script: Script) -> None:
    said = rig.proposal() if script.below(4) < 3 else script.one_of(corpus.SIP)
    most = script.one_of((0, 0, 1, 2))
    hurt = mutated(said, script, (*corpus.EXOTEL, said), most=most)
    rig.said.append(said)
    flow = script.one_of((rig.flow, rig.flow, rig.flow, rig.other, rig.stranger))
    cut = script.place(hurt) if flow.reliable and script.below(4) == 3 else 0
    if cut:
        rig.receive(hurt[:cut], flow)
    if flow.id in rig.living or not flow.reliable:
        rig.receive(hurt[cut:], flow)
    match script.below(8):
        case 1 | 2:
            rig.wait(script.one_of(STEPS))
        case 3 | 4:
            rig.command()
        case 5:
            rig.lose(script.one_of((rig.flow, rig.other)))
            rig.run()
        case 6:
            rig.network = script.below(4) > 0
        case _:
            pass


def beginnings() -> list[bytes]:
    stages, transports = range(len(STAGES)), range(len(TRANSPORTS))
    return [
        bytes([transport, stage, *((7 * stage + at * 3) % 251 for at in range(48))])
        for stage in stages
        for transport in transports
    ]


TARGETS = (Target(name="endpoint", run=endpoint, seeds=beginnings, longest=1500, share=7),)
