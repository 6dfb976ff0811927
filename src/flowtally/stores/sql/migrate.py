"""Brings the tables to the form that this release knows, and says which database this is.

Runs at every start, in one transaction under a lock that only one start at a time can have: whoever
dies in it leaves the tables as they were. A database of a newer release is refused.
"""

from __future__ import annotations

import logging
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from flowtally import __version__
from flowtally.errors import DataFolderError
from flowtally.stores.sql.sqlite_files import revision_in
from flowtally.stores.sql.tables import VERSION_TABLE

_FOLDER = Path(__file__).with_name("migrations")


def upgrade(connection: Connection, create: bool) -> bool:
    """Upgrades in the transaction of this connection, which holds the lock; True if it changed
    anything. Raises `DataFolderError` where a newer release made the tables, or where there are
    none and none are to be made."""
    # Which implementation it uses is nothing to tell an operator at each start.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = _config()
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    options = {"version_table": VERSION_TABLE}
    found = MigrationContext.configure(connection, opts=options).get_current_revision()
    _require_known(found, scripts)
    if found is None and not create:
        raise DataFolderError("there are no tables of flowtally in it")
    head = scripts.get_current_head()
    if found == head:
        return False
    environment = EnvironmentContext(
        config, scripts, fn=lambda revision, _: scripts._upgrade_revs("head", revision)
    )
    with environment:
        scripts.run_env()
    return True


def refuse_newer(path: Path) -> None:
    """Raises `DataFolderError` for a SQLite database whose tables a newer release made, before
    anything of it is written, and with all that its log holds left where it is."""
    if path.exists() and path.stat().st_size:
        _require_known(revision_in(path), ScriptDirectory.from_config(_config()))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def _require_known(found: str | None, scripts: ScriptDirectory) -> None:
    if found is not None and found not in {one.revision for one in scripts.walk_revisions()}:
        raise DataFolderError(
            f"the tables were made by a newer release: of revision {found!r}, and flowtally"
            f" {__version__} knows up to {scripts.get_current_head()!r}; use that release"
        )
