"""The SDP of the tests' WebRTC peer, written and read by aiortc's own classes."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities
from aiortc.sdp import (
    GroupDescription,
    MediaDescription,
    SessionDescription,
    SsrcDescription,
)

from tests.webrtc.heard import OPUS, PCMA, PCMU

MESSAGE_LIMIT = 65_536

CODECS = {
    OPUS: RTCRtpCodecParameters(
        mimeType="audio/opus",
        clockRate=48000,
        channels=2,
        payloadType=OPUS,
        parameters={"minptime": 10, "useinbandfec": 1},
    ),
    PCMU: RTCRtpCodecParameters(mimeType="audio/PCMU", clockRate=8000, channels=1, payloadType=0),
    PCMA: RTCRtpCodecParameters(mimeType="audio/PCMA", clockRate=8000, channels=1, payloadType=8),
}


@dataclass(kw_only=True)
class Description:
    """What our side of one transport says of itself; sections in their order."""

    certificate: RTCCertificate
    username: str = ""
    password: str = ""
    candidates: list[RTCIceCandidate] = field(default_factory=list)
    version: int = 0
    sections: list[MediaDescription] = field(default_factory=list)

    def add_data(self, mid: str) -> None:
        """Add the section of the data channels."""
        section = MediaDescription("application", 9, "UDP/DTLS/SCTP", ["webrtc-datachannel"])
        section.sctp_port = 5000
        section.sctpCapabilities = RTCSctpCapabilities(maxMessageSize=MESSAGE_LIMIT)
        section.rtp.muxId = mid
        self.sections.append(section)

    def add_receiver(self, mid: str, codecs: list[RTCRtpCodecParameters], direction: str) -> None:
        """Add an audio section that sends nothing."""
        formats = [codec.payloadType for codec in codecs]
        section = MediaDescription("audio", 9, "UDP/TLS/RTP/SAVPF", formats)
        section.rtp.codecs = list(codecs)
        self._add_audio(section, mid, direction)

    def add_sender(self, mid: str, payload_type: int, ssrc: int, track: str) -> None:
        """Add the section of our own track."""
        section = MediaDescription("audio", 9, "UDP/TLS/RTP/SAVPF", [payload_type])
        section.rtp.codecs = [CODECS[payload_type]]
        section.msid = f"- {track}"
        section.ssrc = [SsrcDescription(ssrc=ssrc, cname=track)]
        self._add_audio(section, mid, "sendonly")

    def add_refused(self, mid: str, offered: MediaDescription) -> None:
        """Add an answer's section for what we do not want."""
        section = MediaDescription(offered.kind, 0, offered.profile, offered.fmt)
        self._add_audio(section, mid, "inactive")

    def _add_audio(self, section: MediaDescription, mid: str, direction: str) -> None:
        section.direction = direction
        section.rtp.muxId = mid
        section.rtcp_port, section.rtcp_host, section.rtcp_mux = 9, "0.0.0.0", True
        self.sections.append(section)

    def text(self, dtls_role: str) -> str:
        """Return the SDP; *dtls_role* is ``auto`` (actpass), ``client`` or ``server``."""
        self.version += 1
        session = SessionDescription()
        session.origin = f"- 4611731400430051336 {self.version} IN IP4 127.0.0.1"
        mids = [section.rtp.muxId for section in self.sections if section.port]
        session.group = [GroupDescription(semantic="BUNDLE", items=list(mids))]
        session.msid_semantic = [GroupDescription(semantic="WMS", items=["*"])]
        fingerprints = [
            one for one in self.certificate.getFingerprints() if one.algorithm == "sha-256"
        ]
        for section in self.sections:
            section.host = "0.0.0.0"
            section.ice = RTCIceParameters(usernameFragment=self.username, password=self.password)
            section.dtls = RTCDtlsParameters(fingerprints=fingerprints, role=dtls_role)
            section.ice_candidates = self.candidates
        session.media = self.sections
        return str(session)


def usable_codecs(offered: MediaDescription) -> list[RTCRtpCodecParameters]:
    """Return the codecs of an offered section that we can hear, under its payload types."""
    return [
        codec
        for codec in offered.rtp.codecs
        if codec.mimeType.lower() in {"audio/opus", "audio/pcmu", "audio/pcma"}
    ]


def identity(theirs: SessionDescription) -> tuple[RTCIceParameters, RTCDtlsParameters]:
    """Return the ICE and DTLS parameters of a bundle; no section is an error."""
    if not theirs.media or theirs.media[0].ice is None or theirs.media[0].dtls is None:
        msg = "a description without a transport"
        raise ValueError(msg)
    return theirs.media[0].ice, theirs.media[0].dtls


def sending(section: MediaDescription) -> bool:
    """Tell whether the server sends audio in this section of its description."""
    return section.kind == "audio" and section.port != 0 and section.direction in _SENDING


_SENDING = {"sendonly", "sendrecv"}
