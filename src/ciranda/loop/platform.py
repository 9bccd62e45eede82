"""One installation, opened: its folders, its settings, its database, its record of interactions."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ciranda import config
from ciranda.config import Home, Settings
from ciranda.govern import access
from ciranda.interactions.query import Interactions
from ciranda.jobs.placed import Placed
from ciranda.loop import places
from ciranda.store import files
from ciranda.store.database import Database
from ciranda.store.schema import migrate


@dataclass(frozen=True)
class Platform:
    """What every verb of the loop works on."""

    home: Home
    settings: Settings
    db: Database

    @cached_property
    def interactions(self) -> Interactions:
        """The record of interactions, read through the collector."""
        return Interactions.at(self.home)

    @cached_property
    def jobs(self) -> Placed:
        """Where heavy work runs: here, or where a model's file says."""
        return places.jobs(self.home, self.settings)

    @property
    def root(self) -> Path:
        """The folder that file sources and suites must lie in; rows name their files from here on."""
        return Path(self.settings.data_root or self.home.path.parent).expanduser().resolve()

    def close(self) -> None:
        self.db.close()


def open(home: Home) -> Platform:
    """Open a home, making what is missing: folders, database, the engines' key, the first admin key.

    Raises:
        Invalid: A setting is wrong.
        Conflict: A newer Ciranda made the database.
    """
    home.make()
    settings = config.settings(home)
    database = Database(config.database_url(home, settings))
    migrate(database)
    if not home.engine_key.exists():
        files.write_atomic(home.engine_key, secrets.token_urlsafe(32))
    return Platform(home, settings, database)


def first_key(platform: Platform) -> str:
    """The admin key of a new installation, once: the secret at the first call, an empty string ever after.

    It is also kept in the home, readable by its owner alone, so that the command line on this machine works at once.
    """
    if access.listing(platform.db):
        return ""
    with platform.db.writing() as conn:
        _, secret = access.create(conn, "first admin", role="admin", actor="up")
        files.write_atomic(platform.home.admin_key, secret)
    return secret
