"""`flowtally check`: the effective settings, and where each came from."""

from __future__ import annotations

from dataclasses import fields

from flowtally.cli import settings_flags as flag
from flowtally.config import Settings


def command(
    config: flag.Config = None,
    assignments: flag.Set = None,
    store: flag.Store = None,
    data: flag.Data = None,
    host: flag.Host = None,
    port: flag.Port = None,
    insecure: flag.Insecure = None,
) -> None:
    """Validate the settings and print each with its source. Exit code 2 where one is wrong."""
    loaded = flag.load_from(
        config,
        assignments,
        store=store,
        data=data,
        host=host,
        port=port,
        insecure=insecure,
    )
    width = max(len(one.name) for one in fields(Settings))
    for one in fields(Settings):
        value = getattr(loaded.settings, one.name)
        shown = str(value).lower() if isinstance(value, bool) else value
        print(f"{one.name:{width}}  {shown}  ({loaded.sources[one.name]})")
