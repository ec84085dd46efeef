import signal

import pytest


@pytest.fixture
def no_hang():
    """Fail a test that hangs, rather than wait with it for ever."""

    def expire(signum, frame):
        raise TimeoutError("the engine hangs")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
