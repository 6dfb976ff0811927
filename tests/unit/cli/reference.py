"""Writes the pages of `docs/reference/` that are made from the code: settings and command line.

`python -m tests.unit.cli.reference` writes them anew; a test holds them to the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from flowtally.cli.main import app
from flowtally.cli.settings_flags import shown
from flowtally.config import table

FOLDER = Path(__file__).parents[3] / "docs" / "reference"

_SETTINGS = """\
# Settings

Every setting can be given as a flag of `flowtally serve` (and `flowtally check`), as an environment
variable, or as a line of `flowtally.toml`. A flag beats a variable, a variable beats the file, the
file beats the default. The file is the one that `--config` or `FLOWTALLY_CONFIG` names, or
`flowtally.toml` in the current folder where there is one; paths are relative to the current folder.

`flowtally check` validates all of it and prints each value with its source; `flowtally check
--format toml` prints it as a file. An unknown name and a value that breaks its rule are errors, and
all of them are told at once. In the file a value must have its type (`port = 8080`, not `"8080"`).

Some variables are no settings of the service: `FLOWTALLY_CONFIG`, and those that say how a service
is reached to the commands that ask one: `FLOWTALLY_URL`, `FLOWTALLY_TOKEN`, `FLOWTALLY_TOKEN_FILE`,
`FLOWTALLY_CA` (see [the command line](cli.md#asking-a-service-that-wants-a-token)).

The service listens on this machine alone. Where `host` can be reached from others it refuses to
start without `tokens` and `tls_certificate`, or else `insecure`. How to make them:
[securing a service](../guides/securing.md).
"""

_CLI = """\
# Command line

Exit codes: 0 done; 1 it failed, or what was verified does not hold; 2 the call or a setting is
wrong; 130 interrupted; `flowtally health` has its own, below. An error is told on standard error;
`flowtally --debug COMMAND` shows where it came from. Nothing needs a terminal; colours and the
progress bar appear only on one.

Names of flows may be hostile text: what a terminal would act on is printed escaped by
`flowtally query`, in its table; the other formats give every name as it is.
"""

_ACCESS = """\
## Asking a service that wants a token

`send`, `import`, `query`, `health`, `demo`, `verify` and `aggregate` send the token that
`--token-file` (or `FLOWTALLY_TOKEN_FILE`) has, or else the one in the variable `FLOWTALLY_TOKEN`;
`health` sends it to each service that it is told of. No option takes the token itself: everybody on
a machine can read the arguments of a process. `copy` asks two services, so it has two options and
reads no variable. `--ca` (or `FLOWTALLY_CA`) names the authorities that the service's certificate
must be from, in place of those that the system trusts.

A token is sent to the service of the URL and to nobody else: redirects are not followed. Over plain
HTTP to another machine it can be read on the way, and a line on standard error says so.
"""

_KEYS = """\
## What counts once

`send`, `import` and `demo` name each batch by a hash of all that the input held up to the batch's
end, and post it under that `Idempotency-Key`. So:

- The same input sent again counts nothing twice, whatever ended the first attempt, under whatever
  file name or from standard input. It is recognised by what is in it alone.
- Records that occur twice in one input count twice.
- An input that has grown at its end repeats its full batches and adds the rest. A last batch that
  was not full has another key once it has grown, and its records would count again: send a file
  that still grows with `--full-batches-only`, which leaves them for the next time, and without it
  once the file is complete.
- Two inputs with equal content count once. If they are different traffic all the same, give each
  its own `--key-prefix`.
- Another `--batch-records`, `--format`, `--key-prefix`, or a change in the middle of the file makes
  other keys from there on: those records count again.
- The service remembers keys for [`batch_ids_keep_hours`](settings.md): send again within that time.
- For `import`, the key names the log's lines, not the records made of them. A batch of lines that
  comes again with other names or options is refused, and the import ends there. The first batch
  goes alone, so that of a file that was imported before nothing else counts.
"""


def settings_page() -> str:
    """docs/reference/settings.md."""
    parts = [_SETTINGS]
    for row in table():
        parts.append(
            f"## {row.name}\n\n"
            f"{row.rule.about[0].upper()}{row.rule.about[1:]}.\n\n"
            f"- must be: {row.demand}\n"
            f"- default: `{shown(row.default)}`\n"
            f"- flag: `{row.flag}`; variable: `{row.variable}`\n"
        )
    return "\n".join(parts)


def cli_page() -> str:
    """docs/reference/cli.md."""
    parts = [_CLI, _ACCESS, _KEYS]
    for context in _contexts(get_command(app), "flowtally", None):
        parts.append(f"## {context.command_path}\n\n```text\n{_help(context)}\n```\n")
    return "\n".join(parts)


def _contexts(command: Any, name: str, parent: Any) -> Iterator[Any]:
    context = command.context_class(
        command, info_name=name, parent=parent, max_content_width=90, terminal_width=90
    )
    yield context
    for inner_name, inner in getattr(command, "commands", {}).items():
        yield from _contexts(inner, inner_name, context)


def _help(context: Any) -> str:
    text = context.command.get_help(context)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


PAGES = {"settings.md": settings_page, "cli.md": cli_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
