"""When and what to report by RTCP, and what their reports tell (RFC 3550 6.4)."""

from __future__ import annotations

from rtp import rtcp
from rtp.packet import Stream
from rtp.reception import Reception

INTERVAL = 5.0
"""Seconds between reports (RFC 3550 6.2: the recommended fixed minimum)."""


class Reporter:
    """Makes the reports of one call and reads those of the far end."""

    def __init__(self, *, stream: Stream, reception: Reception, cname: str) -> None:
        self.round_trip: float | None = None  # seconds
        self.goodbye = False
        self._stream = stream
        self._reception = reception
        self._cname = cname
        self._next_at: float | None = None
        self._told = (0, 0)  # packets we had sent at the report before the last, and at the last
        self._last_report = 0  # middle of their last SR's NTP time
        self._last_report_at = 0.0
        # RFC 3550 6.2: the interval is varied over [0.5, 1.5] so that parties do not fall
        # into step; a share taken from the random SSRC keeps this core free of chance.
        self._interval = INTERVAL * (0.75 + (stream.ssrc & 0xFF) / 512)

    def due(self, now: float) -> bool:
        """Tell whether a report is to be sent now; the first after half an interval."""
        if self._next_at is None:
            self._next_at = now + self._interval / 2
        if now < self._next_at:
            return False
        self._next_at = now + self._interval
        return True

    def build(self, now: float) -> bytes:
        """Return our report, with a block about their present SSRC if there is one."""
        return rtcp.build(self._report(now), cname=self._cname)

    def build_last(self, now: float) -> bytes:
        """Return our last report, with a BYE: our stream ends."""
        return rtcp.build_last(self._report(now), cname=self._cname)

    def _report(self, now: float) -> rtcp.Report:
        block = self._block(now)
        return rtcp.Report(
            ssrc=self._stream.ssrc,
            sender=self._sender(now),
            blocks=() if block is None else (block,),
        )

    def _sender(self, now: float) -> rtcp.SenderInfo | None:
        """Return what we sent, None when that is nothing new.

        RFC 3550 6.4: the SR is issued if a site has sent any data packets during the
        interval since issuing the last report or the previous one, otherwise the RR is.
        """
        older, last = self._told
        self._told = (last, self._stream.packets)
        if self._stream.packets == older:
            return None
        return rtcp.SenderInfo(
            ntp=rtcp.ntp(now),
            timestamp=self._stream.timestamp,
            packets=self._stream.packets,
            octets=self._stream.octets,
        )

    def _block(self, now: float) -> rtcp.ReportBlock | None:
        reception = self._reception
        if reception.ssrc is None:
            return None
        # RFC 3550 6.4.1: if no SR packet has been received yet, the DLSR field is set to zero.
        delay = int((now - self._last_report_at) * 65536) if self._last_report else 0
        return rtcp.ReportBlock(
            ssrc=reception.ssrc,
            fraction_lost=reception.fraction_lost(),
            cumulative_lost=reception.cumulative_lost,
            highest_sequence=reception.highest,
            jitter=int(reception.jitter),
            last_report=self._last_report,
            delay=delay,
        )

    def receive(self, data: bytes, now: float) -> bool:
        """Take one RTCP datagram; False when it is none."""
        try:
            packets = rtcp.parse(data)
        except rtcp.RtcpError:
            return False
        for packet in packets:
            if isinstance(packet, rtcp.Goodbye):
                self.goodbye = True
            else:
                self._take(packet, now)
        return True

    def _take(self, report: rtcp.Report, now: float) -> None:
        if report.sender is not None:
            self._last_report = rtcp.middle(report.sender.ntp)
            self._last_report_at = now
        for block in report.blocks:
            if block.ssrc == self._stream.ssrc:
                trip = rtcp.round_trip(block, now)
                self.round_trip = self.round_trip if trip is None else trip
