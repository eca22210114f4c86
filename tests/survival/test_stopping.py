"""A signal stops at once where that is safe, and waits for the next step in training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from trainer.stopping import STOP_SIGNALS, StopRequest, Terminated


@pytest.fixture
def request_() -> Iterator[StopRequest]:
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    stop = StopRequest()
    stop.install()
    yield stop
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_outside_training_a_signal_unwinds(request_: StopRequest, number: signal.Signals) -> None:
    with pytest.raises(Terminated, match=number.name):
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 0.1)


def test_in_training_a_signal_only_leaves_its_name(request_: StopRequest) -> None:
    with request_.deferred():
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert request_.signal == "SIGUSR2"


def test_training_does_not_begin_after_a_signal(request_: StopRequest) -> None:
    request_.signal = "SIGTERM"
    with pytest.raises(Terminated), request_.deferred():
        pytest.fail("the block ran")
