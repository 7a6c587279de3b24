"""How much memory a process uses, now and at its peak, on the CPU or on a GPU."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

MIB = 2**20
SAMPLING = 0.002  # seconds
PROC = Path("/proc/self")


def resident_mib() -> float:
    """Return what this process holds now, in MiB."""
    return float(psutil.Process().memory_info().rss / MIB)


def process_peak_mib() -> float:
    """Return the most that this process has ever used, in MiB: of the GPU if it used one, or else what it held."""
    if torch.cuda.is_available() and (
        peak := max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    ):
        return peak / MIB
    if sys.platform == "darwin":
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    return peak_since_reset_mib()


def reset_peak() -> None:
    """Reset the peak of this process; only Linux can do this."""
    with contextlib.suppress(OSError):
        (PROC / "clear_refs").write_text("5")


def peak_since_reset_mib() -> float:
    """Return the most that this process has held since `reset_peak`, or ever without that, in MiB.

    Elsewhere than on Linux and Windows it is what the process holds now.
    """
    with contextlib.suppress(OSError):
        for line in (PROC / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return getattr(psutil.Process().memory_info(), "peak_wset", resident_mib() * MIB) / MIB


@dataclass
class Peak:
    """Memory before some work, and the most during it, in MiB."""

    base_mib: float
    peak_mib: float


@contextlib.contextmanager
def sampled_peak(device: torch.device) -> Iterator[Peak]:
    """Watch the memory of the work inside; the peak is there at the end.

    On a GPU that is what PyTorch has allocated; on a CPU what the process holds, looked at every `SAMPLING` seconds,
    which also counts the scratch memory of the kernels.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        memory = Peak(torch.cuda.memory_allocated(device) / MIB, 0.0)
        yield memory
        memory.peak_mib = torch.cuda.max_memory_allocated(device) / MIB
        return
    process, done = psutil.Process(), threading.Event()
    memory = Peak(resident_mib(), resident_mib())

    def sample() -> None:
        while not done.wait(SAMPLING):
            memory.peak_mib = max(memory.peak_mib, process.memory_info().rss / MIB)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()


def allocator_peak_bytes(run: Callable[[], object], device: str) -> int:
    """Return the most bytes of PyTorch's allocator that a pass holds at once beyond what lived before it.

    On a CPU that is the highest sum of what it has handed out; what oneDNN and MKL take for themselves is not seen. On
    a GPU it is the caching allocator's own peak.

    Args:
        run: The pass; run it once before, so that what libraries keep is there already.
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with tempfile.TemporaryDirectory(prefix="yolo-mha-") as folder:
        file = Path(folder) / "trace.json"
        with _standard_error_closed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            run()
        profiler.export_chrome_trace(str(file))
        events = [e for e in json.loads(file.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    if not events:
        return 0
    first = min(events, key=lambda e: e["ts"])["args"]
    return int(max(e["args"]["Total Allocated"] for e in events) - (first["Total Allocated"] - first["Bytes"]))


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Keep what the profiler's C++ code writes to standard error, below Python's own, off the screen."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
