"""A running Ray cluster: joined as a driver, and asked how many workers its machines can take."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, DependencyError, one_line
from ..guard import in_environment

AUTO = "auto"
CONNECT = 5.0  # seconds in which the head of a cluster answers
PACKAGE = "yolo-mha"


@dataclass(frozen=True)
class Resources:
    """What a worker takes of a machine; Ray gives it no more threads and shows it no other GPUs.

    Attributes:
        cpus: Number of CPU cores.
        gpus: Number of GPUs, a part of one where several workers share it.
        unit: What is done there: "run" or "worker", as settings are named.
    """

    cpus: int
    gpus: float
    unit: str

    def check(self, device: object) -> None:
        """Make sure that a worker has one GPU at most, which Ray chooses.

        Args:
            device: Ultralytics' setting.

        Raises:
            ConfigError: It would not.
        """
        if not isinstance(self.gpus, (int, float)) or not 0 <= self.gpus <= 1:
            given = f"gpus_per_{self.unit}={self.gpus}"
            raise ConfigError(f"A {self.unit} uses one GPU.", given=given, expected="0 to 1")
        if self.gpus and device is not None:
            expected = f"no device=, or gpus_per_{self.unit}=0"
            raise ConfigError(f"Ray chooses the GPU of a {self.unit}.", given=f"device={device}", expected=expected)

    def take(self) -> None:
        """Keep this process, a worker, and those that it starts to these resources."""
        os.environ["OMP_NUM_THREADS"] = str(self.cpus)
        torch.set_num_threads(self.cpus)
        if not self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def fits(self, machine: Mapping[str, float]) -> int:
        """Return how many workers a machine can take; Ray counts CPU and GPU."""
        counts = [machine.get("CPU", 0) / self.cpus]
        return int(min([*counts, machine.get("GPU", 0) / self.gpus] if self.gpus else counts))


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Be a driver of a running cluster while the block runs; in a process that is one already, stay it.

    Args:
        address: "auto", or host:port of the cluster's head.

    Raises:
        ConfigError: There is no such cluster, or it has another version of Ray or Python.
        DependencyError: Ray is missing.
    """
    try:
        with in_environment(RAY_USAGE_STATS_ENABLED="0"):
            import ray
    except ImportError as e:
        raise DependencyError("Ray is not installed.", fix="pip install 'yolo-mha[ray]'") from e
    own = not ray.is_initialized()
    if own:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with in_environment(RAY_USAGE_STATS_ENABLED="0"):
                ray.init(address=_checked(address), log_to_driver=False, configure_logging=False)
        except (RuntimeError, ValueError, OSError, OverflowError) as e:
            raise ConfigError(
                "There is no Ray cluster that can be used.",
                given=f"address={address}: {one_line(e)}",
                expected="auto, or host:port of a running cluster's head, with this version of Ray and Python",
                fix="start it: 'ray start --head', and 'ray start --address=HEAD:6379' on each other machine",
            ) from e
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends with another exit code
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def _checked(address: str) -> str:
    """Return an address where something answers; Ray itself would try for minutes.

    Raises:
        OSError, ValueError: Nothing answers, or it is no address.
    """
    address = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else str(address)  # as Ray does
    if address != AUTO:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=CONNECT).close()
    return address


def workers(resources: Resources) -> int:
    """Return the number of workers that the cluster can take.

    Raises:
        ConfigError: It can take none, and Ray would wait for ever.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not (count := sum(map(resources.fits, machines))):
        has = "; ".join(f"{m.get('CPU', 0):g} CPU, {m.get('GPU', 0):g} GPU" for m in machines)
        asked = f"cpus_per_{resources.unit}={resources.cpus} gpus_per_{resources.unit}={resources.gpus:g}"
        raise ConfigError(
            f"No machine of the cluster has enough CPUs or GPUs for a {resources.unit}.",
            given=f"{asked}; the machines have {has}",
            expected="a machine with as many CPU cores and GPUs",
            fix=f"gpus_per_{resources.unit}=0 works on the CPU" if resources.gpus else "request fewer",
        )
    return count


def packed(*values: Any) -> bytes:
    """Return values with what another machine needs to read them; see `unpacked`."""
    content = pickle.dumps(values)
    return pickle.dumps((metadata.version(PACKAGE), os.getcwd(), sys.path, content))


def unpacked(content: bytes, folder: Path) -> tuple[Any, ...]:
    """Return values that the driver packed, in a worker, which from now on works in the driver's working directory.

    Args:
        content: From `packed`.
        folder: A folder that both must see.

    Raises:
        ConfigError: The machine has another version of this package, or other files.
    """
    version, here, path, values = pickle.loads(content)
    own = metadata.version(PACKAGE)
    if version != own:
        given, expected = f"{socket.gethostname()} has {own}", version
        raise ConfigError("A machine has another version of yolo-mha.", given=given, expected=expected)
    for seen in (folder, Path(here)):
        if not seen.is_dir():
            raise ConfigError(
                "A machine of the cluster does not see the same files.",
                given=f"{socket.gethostname()}: no folder {seen}",
                expected="results, data, models and the working directory under the same paths on all machines",
                fix="put them on storage that all machines share; project= says where the results go",
            )
    os.chdir(here)
    sys.path.extend(each for each in path if each not in sys.path)
    unpacked: tuple[Any, ...] = pickle.loads(values)
    return unpacked
