"""The schema's version, and bringing it to head from inside the service."""

import asyncio
import threading
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic import command

_HERE = Path(__file__).parent
_INSTALLED = _HERE / "alembic"
_ONE_AT_A_TIME = threading.Lock()  # Alembic's context is the process's
_SCRIPTS = _INSTALLED if _INSTALLED.is_dir() else _HERE.parents[2] / "alembic"


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The revision that this version of the service works with."""
    return str(ScriptDirectory.from_config(alembic_config()).get_current_head())


def is_older(revision: str | None) -> bool:
    """Whether a database with `revision`, or with no schema, can be brought to head."""
    known = {
        script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()
    }
    return revision != head() and (revision is None or revision in known)


async def upgrade(dsn: str, dimension: int) -> None:
    """Bring the schema to head; processes that start together wait for one another.

    `dimension` is that of the embedding columns, where they do not exist yet.
    """
    config = alembic_config()
    config.attributes.update(dsn=dsn, dimension=lambda: dimension)
    # `alembic/env.py` runs an event loop, which only a thread without one can do.
    await asyncio.to_thread(_upgrade, config)


def _upgrade(config: Config) -> None:
    with _ONE_AT_A_TIME:
        command.upgrade(config, "head")
