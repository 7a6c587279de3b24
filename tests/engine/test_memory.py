import contextlib
import mmap
import sys
import time

import pytest
import torch

from yolo_mha.engine.memory import peak_since_reset_mib, process_peak_mib, reset_peak, resident_mib, sampled_peak

LARGE = 64 * 2**20  # bytes


@contextlib.contextmanager
def held():
    """Hold fresh pages of the system; an allocator would first take what it has kept from other tests."""
    with mmap.mmap(-1, LARGE) as pages:
        for i in range(0, LARGE, mmap.PAGESIZE):
            pages[i] = 1
        yield


def test_sampled_peak__sees_what_is_gone_at_the_end():
    with sampled_peak(torch.device("cpu")) as memory, held():
        most = resident_mib()
        time.sleep(0.2)
    assert memory.peak_mib - memory.base_mib == pytest.approx(64, abs=16)
    assert resident_mib() < most - 32


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lets a peak begin anew")
def test_reset_peak__forgets_what_was_held_before():
    with held():
        pass
    before = peak_since_reset_mib()
    assert process_peak_mib() == before
    assert before > resident_mib() + 32
    reset_peak()
    assert peak_since_reset_mib() == pytest.approx(resident_mib(), abs=16)
