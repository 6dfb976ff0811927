"""A Prometheus of the tests' own, and its `promtool`: from Debian's package `prometheus`.

Where it is not installed the tests that need it are skipped with that reason, and fail instead
where REQUIRE_PROMTOOL is set, as CI does.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash.service import free_port

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
_STARTED_S_MAX = 60.0
_POLL_S = 0.05
_SECONDS = len("2026-01-01T00:00:00")


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed (Debian's package prometheus)"
        if os.environ.get("REQUIRE_PROMTOOL"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def promtool(*arguments: str | Path, given: bytes = b"") -> str:
    """What it says; it must succeed."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


def alerts_in_rules() -> dict[str, str]:
    """The alerts by name, each with its lines."""
    _, *rules = re.split(r"^      - alert: ", RULES.read_text(), flags=re.MULTILINE)
    return {rule.split()[0]: rule for rule in rules}


class Prometheus:
    """Scrapes one service each second; what has to last for minutes before it is an alert has to
    last for a second here."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str) -> Any:
        """The data of an answer of its API; None where it does not answer yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", f"/api/v1/{path}")
            answer = connection.getresponse()
            return json.loads(answer.read())["data"] if answer.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def firing(self) -> dict[str, dict[str, str]]:
        """The alerts that fire now: their annotations and labels together, by name."""
        found = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {
            alert["labels"]["alertname"]: {**alert["annotations"], **alert["labels"]}
            for alert in found
            if alert["state"] == "firing"
        }

    def last_scrape(self) -> str:
        """When it last asked the service, to the second; a later moment is a greater text."""
        targets = (self.ask("targets?state=active") or {"activeTargets": []})["activeTargets"]
        return min((target["lastScrape"][:_SECONDS] for target in targets), default="")

    def last_evaluation(self) -> str:
        """When it last looked at all rules."""
        groups = (self.ask("rules") or {"groups": []})["groups"]
        return min((group["lastEvaluation"][:_SECONDS] for group in groups), default="")


@contextmanager
def scraping(service_port: int, folder: Path) -> Iterator[Prometheus]:
    """A running Prometheus with our rules; ended at the end."""
    folder.mkdir()
    rules = re.sub(r"^        for: .*$", "        for: 1s", RULES.read_text(), flags=re.MULTILINE)
    (folder / "alerts.yml").write_text(rules)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": "flowtally",
                "static_configs": [{"targets": [f"127.0.0.1:{service_port}"]}],
            }
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
    found = Prometheus(port)
    try:
        deadline_s = time.monotonic() + _STARTED_S_MAX
        while found.ask("targets?state=active") is None:
            assert process.poll() is None, (folder / "output.log").read_text()
            assert time.monotonic() < deadline_s, "Prometheus does not answer"
            time.sleep(_POLL_S)
        yield found
    finally:
        process.kill()
        process.wait()
