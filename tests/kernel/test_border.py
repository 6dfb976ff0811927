"""The border between Python and the kernel: what may cross it, from how many threads."""

from __future__ import annotations

import json
import threading

import pytest

from flowtally import limits
from tests.kernel.comparing import PLAIN
from tests.kernel.native import kernel


def test_the_rules_are_stated_alike() -> None:
    for name in (
        "NAME_BYTES_MAX",
        "HOUR_MAX",
        "RECORD_BYTES_VALUE_MAX",
        "UNKNOWN_DEPTH_MAX",
        "CLOSE_LOOK_MARKS_PER_RECORD_MAX",
    ):
        assert getattr(kernel, name) == getattr(limits, name)


def test_threads() -> None:
    body = ("[" + ",".join([PLAIN] * 500) + "]").encode()
    spread = json.dumps(json.loads(body), indent=1).encode()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                for text in (body, spread):
                    found = kernel.decode_json(text, 500)
                    assert found is not None
                    assert found.account() == (1, 500, 150_000, 50_000)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


@pytest.mark.parametrize("body", ["[]", bytearray(b"[]"), memoryview(b"[]"), None])
def test_only_bytes_are_read(body: object) -> None:
    with pytest.raises(TypeError):
        kernel.decode_json(body, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("records_max", [-1, 2**64])
def test_only_counts_are_counts(records_max: int) -> None:
    with pytest.raises(OverflowError):
        kernel.decode_json(b"[]", records_max)


def test_a_failure_is_an_exception_of_an_ordinary_kind() -> None:
    assert issubclass(kernel.KernelError, RuntimeError)
