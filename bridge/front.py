"""The API of this instance: every route, over what the daemon has built.

A plug, as `bridge.adapters`: only the daemon uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import FastAPI

from bridge.api import livekit_webhook, older, sessions, transcripts, web_calls, webhooks
from bridge.api.app import make_app
from bridge.api.auth import Gatekeeper
from bridge.api.door import Doors
from bridge.api.reading import Reading
from bridge.api.recordings import RecordingDoor
from bridge.books import Books
from bridge.call.switchboard import Switchboard
from bridge.config.config import Config
from bridge.feed import Feed
from bridge.fleet import Fleet
from bridge.observe.metrics import Metrics
from bridge.room.tokens import LiveKitKeys
from bridge.sessions.news import Webhooks
from bridge.sessions.reading import StoreSessions
from bridge.sessions.sessions import Sessions
from bridge.transcript.desk import Transcripts
from bridge.transcript.reading import Transcribed
from bridge.webhook.address import check_url


def front(
    config: Config,
    switchboard: Switchboard,
    gatekeeper: Gatekeeper,
    feed: Feed,
    *,
    everywhere: Feed | None,
    version: str,
    metrics: Metrics,
    keys: LiveKitKeys,
    books: Books,
    fleet: Fleet,
    web: Sessions,
    said: Transcripts,
    recordings: RecordingDoor | None = None,
) -> FastAPI:
    """Return the app; call it on the loop of the calls.

    *everywhere* has the events of all instances; None: there is this one only. *web* are the
    web calls, *said* what is said on all that run here, *recordings* what is kept of it as sound.
    """
    doors = Doors(switchboard, asyncio.get_running_loop())
    check = receiver_check(config)
    reading = Reading(doors, books.store, books.projection, books.store.near)
    session_reading = sessions.SessionReading(
        doors, web, StoreSessions(books.store), books.projection
    )
    transcribed = Transcribed(books.store)
    routers = [
        transcripts.router(
            doors, said, reading, transcribed=transcribed, projection=books.projection
        ),
        sessions.router(doors, web, session_reading, check_url=check),
        web_calls.router(doors, web),
        older.router(doors, reading, switchboard, books.store, fleet.place_of, web),
        livekit_webhook.router(doors, web, Webhooks(keys)),
        webhooks.router(books.outbox, books.deliverer.wake),
    ]
    return make_app(
        doors,
        gatekeeper,
        feed,
        everywhere=everywhere,
        version=version,
        metrics=metrics,
        trunks=metrics,
        reading=reading,
        web_calls=web_calls.WebDoor(web),
        recordings=recordings,
        check_url=check,
        routers=routers,
        cors=config.http.cors_origins,
    )


def receiver_check(config: Config) -> Callable[[str], None] | None:
    """Return what raises ``ValueError`` for a receiver that may not be named.

    None: there is no secret to sign with, so nobody may name one.
    """
    if not config.webhook.secret.get_secret_value():
        return None

    def check(url: str) -> None:
        check_url(url, allow_private=config.webhook.allow_private)

    return check
