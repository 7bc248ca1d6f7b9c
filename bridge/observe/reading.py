"""One look at everything that is not counted as it happens, and the page made of it.

A `Reading` is taken on the loop's thread and only copies numbers. The page is written in
a thread of its own, from that copy and from the registry, whose counters and
histograms have locks of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from bridge.observe import catalogue
from bridge.observe.catalogue import Figure

TrunkWay = tuple[str, str]
"""Trunk and direction."""

Rows = Mapping[tuple[str, ...], float]
"""Label values, in the figure's order, and the value."""

ALONE: Final[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Numbers of one moment: of each figure that is pulled, its rows."""

    rows: Mapping[Figure, Rows]

    def families(self) -> Iterator[Metric]:
        """Return them as the library's families."""
        for figure, rows in self.rows.items():
            family = _family(figure)
            for labels, value in rows.items():
                family.add_metric(labels, value)
            yield family


def _family(figure: Figure) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    return kind(figure.name, figure.text, labels=figure.labels)


class Page:
    """What one scrape gets. A collector: the library's writers take it for a registry."""

    def __init__(self, registry: CollectorRegistry, reading: Reading) -> None:
        self._registry = registry
        self._reading = reading

    def collect(self) -> Iterable[Metric]:
        """Return all families, without the ``_created`` series, which nobody asks for."""
        for family in self._registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family
        yield from self._reading.families()

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the format that *accept* asks for."""
        try:
            write, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            write, content_type = choose_encoder("")
        return write(self), content_type


def single(value: float) -> Rows:
    """Return the rows of a figure without labels."""
    return {ALONE: value}


PULLED: Final = (
    catalogue.CALLS,
    catalogue.RTP_LOST,
    catalogue.RTP_PACKETS,
    catalogue.MEDIA_PORTS,
    catalogue.MEDIA_CALLS,
    catalogue.MEDIA_TURNS,
    catalogue.MEDIA_MISSED,
    catalogue.MEDIA_LATE,
    catalogue.CAPTURE_DROPPED,
    catalogue.LIVEKIT_UP,
    catalogue.SIP_SESSIONS,
    catalogue.TLS_EXPIRY,
    catalogue.TLS_FAILED,
    catalogue.TRUNK_UP,
    catalogue.TRUNK_REGISTERED,
    catalogue.TRUNK_LAST_SUCCESS,
    catalogue.TRUNK_MAX_CALLS,
    catalogue.MAX_CALLS,
    catalogue.DRAINING,
    catalogue.OVERLOADED,
    catalogue.WEBHOOKS,
    catalogue.WEBHOOKS_WAITING,
    catalogue.WEBHOOKS_OLDEST,
    catalogue.QUEUE_WAITING,
    catalogue.RECORDINGS_RUNNING,
    catalogue.RECORDINGS,
    catalogue.RECORDINGS_WAITING,
    catalogue.RECORDING_DROPPED,
    catalogue.WEB_CALLS,
    catalogue.SIP_CONNECTIONS,
    catalogue.JOURNAL_WRITABLE,
    catalogue.JOURNAL_WAITING,
    catalogue.STORE_UP,
    catalogue.STORE_LAG,
    catalogue.STORE_REFUSED,
    catalogue.BUILD_INFO,
)
