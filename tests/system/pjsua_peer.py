"""PJSIP as a peer, in a process of its own: JSON lines in are commands, JSON lines out events.

Run by tests/system/pjsua.py, never imported: the library aborts its process on a failed
assertion. One thread does everything (PJSIP's own loop is turned between two looks at stdin);
no sound card: a tone goes out, what comes in is written into a WAV file.
"""

# ruff: noqa: N802 (the callbacks are named by PJSIP)
from __future__ import annotations

import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pjsua2 as pj

TURN_MS = 10
TRANSPORTS = {
    "tcp": pj.PJSIP_TRANSPORT_TCP,
    "udp": pj.PJSIP_TRANSPORT_UDP,
    "tls": pj.PJSIP_TRANSPORT_TLS,
}
STATES = {
    pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
    pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "local hold",
    pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "remote hold",
}


def say(**line: Any) -> None:
    """Write one line to the test."""
    OUT.write(json.dumps(line, separators=(",", ":")) + "\n")
    OUT.flush()


def guarded(callback: Callable[..., None]) -> Callable[..., None]:
    """Tell the test of an exception; in a callback of PJSIP it would end the process."""

    def called(*given: Any) -> None:
        try:
            callback(*given)
        except Exception:  # whatever it is, the test is to see it
            say(event="fault", text=traceback.format_exc())

    return called


class Call(pj.Call):
    """One call, whichever way."""

    def __init__(self, peer: Peer, number: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(peer.account, number)
        self.peer = peer

    @guarded
    def onCallState(self, _: Any) -> None:
        info = self.getInfo()
        say(event="state", call=self.getId(), state=info.stateText, status=info.lastStatusCode)
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.peer.over(self)

    @guarded
    def onCallMediaState(self, _: Any) -> None:
        info = self.getInfo()  # kept: its vectors live as long as it
        for at, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO:
                say(event="media", call=self.getId(), state=STATES.get(media.status, "none"))
                if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                    audio = self.getAudioMedia(at)
                    self.peer.tone.startTransmit(audio)
                    audio.startTransmit(self.peer.recorder)

    @guarded
    def onDtmfDigit(self, prm: Any) -> None:
        say(event="key", call=self.getId(), digit=prm.digit, method=prm.method)

    @guarded
    def onCallTransferRequest(self, prm: Any) -> None:
        say(event="refer", call=self.getId(), to=prm.dstUri)
        prm.newCall = self.peer.keep(Call(self.peer))

    @guarded
    def onCallTransferStatus(self, prm: Any) -> None:
        say(
            event="transfer",
            call=self.getId(),
            status=prm.statusCode,
            final=bool(prm.finalNotify),
        )


class Account(pj.Account):
    """Takes the calls that come."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer

    @guarded
    def onIncomingCall(self, prm: Any) -> None:
        call = self.peer.keep(Call(self.peer, prm.callId))
        say(event="incoming", call=call.getId())
        if self.peer.options["ring"]:
            call.answer(parameters(180))


def parameters(status: int = 0) -> Any:
    """Return the parameters of an operation with the default settings."""
    prm = pj.CallOpParam(True)
    prm.statusCode = status
    return prm


class Peer:
    """The endpoint, its account, its sound, and what the test may ask."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.calls: dict[int, Call] = {}
        self.ended: list[Call] = []  # kept: PJSIP still uses them when it tells of their end
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        self.endpoint.libInit(self.settings())
        transport = pj.TransportConfig()
        transport.port = options["port"]
        transport.boundAddress = transport.publicAddress = "127.0.0.1"
        if options["tls"]:
            transport.tlsConfig.certFile, transport.tlsConfig.privKeyFile = options["tls"]
            transport.tlsConfig.proto = pj.PJ_SSL_SOCK_PROTO_TLS1_2
        self.endpoint.transportCreate(TRANSPORTS[options["transport"]], transport)
        self.endpoint.libStart()
        self.endpoint.audDevManager().setNullDev()
        for codec in self.endpoint.codecEnum2():
            self.endpoint.codecSetPriority(codec.codecId, 0)
        self.endpoint.codecSetPriority("PCMA/8000/1", 255)
        self.tone = pj.ToneGenerator()
        self.tone.createToneGenerator(8000, 1)
        sound = pj.ToneDesc()
        sound.freq1, sound.freq2 = options["hertz"], 0
        sound.on_msec, sound.off_msec = 1000, 0
        tones = pj.ToneDescVector()
        tones.append(sound)
        self.tone.play(tones, True)
        self.recorder = pj.AudioMediaRecorder()
        self.recorder.createRecorder(options["recording"])
        self.account = Account(self)
        self.account.create(self.account_settings(), True)

    def settings(self) -> Any:
        """Return the settings of the library: one thread, no echo canceller, all told."""
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.maxCalls = 4
        config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        config.logConfig.level, config.logConfig.consoleLevel = 5, 0
        config.logConfig.filename = self.options["log"]
        config.logConfig.msgLogging = 1
        return config

    def account_settings(self) -> Any:
        """Return the settings of the account: media on loopback, SRTP and timers as asked."""
        config = pj.AccountConfig()
        config.idUri = f"sip:{self.options['number']}@127.0.0.1"
        media = config.mediaConfig
        media.transportConfig.boundAddress = media.transportConfig.publicAddress = "127.0.0.1"
        media.transportConfig.port = self.options["rtp"]
        media.transportConfig.portRange = 40
        media.srtpUse = pj.PJMEDIA_SRTP_DISABLED
        if self.options["srtp"]:
            media.srtpUse, media.srtpSecureSignaling = pj.PJMEDIA_SRTP_MANDATORY, 0
            keyings = pj.IntVector()
            keyings.append(pj.PJMEDIA_SRTP_KEYING_SDES)
            media.srtpOpt.keyings = keyings
        calls = config.callConfig
        calls.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
        if self.options["timer"]:
            calls.timerUse = pj.PJSUA_SIP_TIMER_ALWAYS
            calls.timerMinSESec = calls.timerSessExpiresSec = self.options["timer"]
        calls.prackUse = pj.PJSUA_100REL_OPTIONAL
        if self.options["reliable"]:
            calls.prackUse = pj.PJSUA_100REL_MANDATORY
        return config

    def keep(self, call: Call) -> Call:
        """Keep a call alive; Python would take it away below PJSIP."""
        self.calls[call.getId()] = call
        return call

    def over(self, call: Call) -> None:
        """Forget a call whose end was told."""
        self.calls = {number: one for number, one in self.calls.items() if one is not call}
        self.ended.append(call)

    @property
    def call(self) -> Call:
        """The call that the test means: the oldest."""
        return next(iter(self.calls.values()))

    # what the test may ask

    def dial(self, uri: str) -> None:
        call = Call(self)
        call.makeCall(uri, parameters())
        self.keep(call)

    def answer(self, status: int = 200) -> None:
        self.call.answer(parameters(status))

    def hold(self) -> None:
        self.call.setHold(parameters())

    def resume(self) -> None:
        prm = parameters()
        prm.opt.flag = pj.PJSUA_CALL_UNHOLD
        self.call.reinvite(prm)

    def update(self) -> None:
        self.call.update(parameters())

    def keys(self, digits: str, info: bool = False) -> None:
        prm = pj.CallSendDtmfParam()
        prm.digits = digits
        prm.method = pj.PJSUA_DTMF_METHOD_SIP_INFO if info else pj.PJSUA_DTMF_METHOD_RFC2833
        self.call.sendDtmf(prm)

    def refer(self, to: str) -> None:
        self.call.xfer(to, parameters())

    def hangup(self) -> None:
        self.call.hangup(parameters())

    def ask(self, line: dict[str, Any]) -> None:
        """Do what a line says, and answer it."""
        try:
            getattr(self, line["do"])(**line.get("given", {}))
        except Exception as failure:  # pjsua2 raises Error, which is no subclass of much
            text = failure.info() if isinstance(failure, pj.Error) else repr(failure)
            say(id=line["id"], ok=False, error=text)
        else:
            say(id=line["id"], ok=True)

    def run(self) -> None:
        """Turn PJSIP's loop until stdin closes."""
        rest = b""
        while True:
            self.endpoint.libHandleEvents(TURN_MS)
            if not select.select([0], [], [], 0)[0]:
                continue
            read = os.read(0, 65536)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            for text in lines:
                self.ask(json.loads(text))


if __name__ == "__main__":
    OUT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints is for the log
    peer = Peer(json.loads(sys.argv[1]))
    say(event="ready")
    peer.run()
    os._exit(0)  # PJSIP's own way out waits for seconds
