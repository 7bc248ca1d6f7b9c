"""What unit and system tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole run; tests have databases of their own."""
    from tests.postgres import server  # who needs none does not wait for the import

    with server() as running:
        yield running
