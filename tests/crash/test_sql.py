"""The sql store, killed at every named step and at random, on SQLite and on PostgreSQL; and what it
does when PostgreSQL itself dies under it.

CRASH_KILLS says how often it is killed at random (here at most 15 times), CRASH_SECONDS how long.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from contextlib import closing

import pytest

from flowtally import limits
from tests.crash.accounts import assert_exact, assert_service_sound
from tests.crash.calls import get, post
from tests.crash.campaign import attack
from tests.crash.deaths import dies_at, dies_at_expiry
from tests.crash.expected import Expected
from tests.crash.failing import assert_refuses, assert_resumes, writing
from tests.crash.service import READY_S_MAX, Service, wait_for
from tests.crash.test_random_kills import KILLS_MIN
from tests.postgres import Postgres

_KILLS = 15
_SECONDS = 25.0
_KILLED = -9


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_service(service: Service, request: pytest.FixtureRequest) -> Service:
    """Not yet started, on an empty database."""
    service.set(store="sql")
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        service.set(sql_url=postgres.url(service.folder))
    return service


@pytest.mark.parametrize("step", ["commit.begun", "sql.copied", "commit.written", "commit.synced"])
def test_dies_at(sql_service: Service, seed: int, step: str) -> None:
    dies_at(sql_service, seed, step)


@pytest.mark.parametrize("step", ["expire.journalled", "expire.written", "expire.committed"])
def test_dies_at_expiry(sql_service: Service, seed: int, step: str) -> None:
    dies_at_expiry(sql_service, seed, step)


def test_dies_over_the_tables(sql_service: Service) -> None:
    """The first start makes them wholly or not at all."""
    sql_service.set(die_at="sql.migrated")
    for _ in range(2):
        sql_service.start()
        assert sql_service.wait_ended() == _KILLED, sql_service.output()
    sql_service.set(die_at=None)
    sql_service.start_ready()
    assert_exact(sql_service, Expected())
    assert sql_service.stop() == 0, sql_service.output()


def test_random_kills(sql_service: Service, seed: int) -> None:
    kills = min(int(os.environ.get("CRASH_KILLS", "50")), _KILLS)
    seconds = min(float(os.environ.get("CRASH_SECONDS", "150")), _SECONDS)
    outcome = attack(sql_service, seed, kills, duration_s_max=seconds)
    print(outcome.table())
    assert outcome.kills >= min(kills, KILLS_MIN), "too few kills to prove anything"
    assert outcome.counts.acknowledged > 0
    assert outcome.reads > 0


def test_postgres_dies_and_comes_back(service: Service, seed: int, own_postgres: Postgres) -> None:
    """Nothing is acknowledged meanwhile, each refusal says when to come back, the service lives on,
    and goes on by itself."""
    service.set(store="sql", sql_url=own_postgres.url(service.folder))
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        for how in (signal.SIGQUIT, signal.SIGINT):
            own_postgres.stop(how)
            wait_for(lambda: service.answers("/readyz", 503), READY_S_MAX, "it does not notice")
            before = writers.counts.acknowledged
            assert get(service.port, "/v1/hours").status == 503
            assert get(service.port, "/livez").status == 200
            assert writers.counts.acknowledged == before
            own_postgres.start()
            assert writers.wait_acknowledged(20, READY_S_MAX), service.output()
        assert_resumes(service, writers, expected)
    assert service.stop() == 0, service.output()
    assert_service_sound(service, expected)


def test_postgres_hangs(service: Service, seed: int, own_postgres: Postgres) -> None:
    """It keeps its connections and answers nothing: nobody waits for it without end, neither who
    posts nor who stops the service."""
    service.set(store="sql", sql_url=own_postgres.url(service.folder), sql_change_s=1.0)
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        own_postgres.freeze()
        wait_for(lambda: service.answers("/readyz", 503), READY_S_MAX, "it does not notice")
        assert service.answers("/livez", 200)
        own_postgres.thaw()
        assert_resumes(service, writers, expected)
    own_postgres.freeze()
    assert service.stop() == 0, service.output()
    own_postgres.thaw()
    assert_service_sound(service, expected)


def test_a_refusal_without_postgres_comes_at_once_and_a_start_names_it(
    service: Service, own_postgres: Postgres
) -> None:
    """And nobody gets to see the password."""
    url = own_postgres.url(service.folder).replace("flowtally@", "flowtally:s3cret@")
    own_postgres.stop()
    service.set(store="sql", sql_url=url)
    service.start()
    assert service.wait_ended() == 1
    assert "cannot be reached" in service.output()
    assert "s3cret" not in service.output()


def test_a_lock_that_is_waited_for_makes_nothing_look_stuck(service: Service) -> None:
    """As long as a service waits, which is longer than a part may else be silent: the database has
    failed, and its alert would never fire if that were told only between two attempts."""
    lock_wait_s = 10
    assert lock_wait_s > limits.BEAT_AGE_S_MAX + 1
    service.set(store="sql", sql_lock_wait_s=lock_wait_s)
    service.start_ready()

    def is_patient() -> bool:
        told = get(service.port, "/metrics").body.decode()
        stuck = re.findall(r'^flowtally_part_stuck\{part="(\w+)"\} 1', told, re.MULTILINE)
        assert not stuck, stuck
        [age_s] = re.findall(
            r'^flowtally_part_beat_age_seconds\{part="database"\} (\S+)', told, re.MULTILINE
        )
        return float(age_s) > limits.BEAT_AGE_S_MAX + 1

    with closing(sqlite3.connect(service.data / "flows.sqlite", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        assert post(service.port, b"[]").status == 503
        wait_for(is_patient, READY_S_MAX, "no attempt waits so long", service.output)
        shell.execute("ROLLBACK")
    service.wait_ready()
    assert service.stop() == 0, service.output()


def test_another_program_has_the_file_locked(service: Service, seed: int) -> None:
    """A shell that was left in a transaction: refused meanwhile, and never half done."""
    service.set(store="sql")
    service.start_ready()
    expected = Expected()
    with writing(service, seed, expected) as writers:
        with sqlite3.connect(service.data / "flows.sqlite", isolation_level=None) as shell:
            shell.execute("BEGIN IMMEDIATE")
            assert_refuses(service, writers, expected, "database")
            shell.execute("ROLLBACK")
        shell.close()
        assert_resumes(service, writers, expected)
    assert service.stop() == 0, service.output()
    assert_service_sound(service, expected)
