"""How a process is started that works on a network, and so has to know the user's blocks in it."""

from __future__ import annotations

import os
import sys

from ..registry import Network, is_block

# Imports the modules of the blocks, then runs ``main`` of one of this package. The working directory, which -c puts
# first on the path, may be a stranger's.
SCRIPT = """
import sys
if sys.path[0] == "":
    del sys.path[0]
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
importlib.import_module(sys.argv[1]).main()
"""


def command(module: str, network: Network) -> list[str]:
    """Return the words that start a process.

    Args:
        module: The module whose ``main`` it runs.
        network: The network that it works on; the modules of other registered blocks are left alone.
    """
    blocks = {type(m).__module__ for m in network.modules() if is_block(type(m).__name__)}
    return [sys.executable, "-c", SCRIPT, module, *sorted(blocks)]


def environment() -> dict[str, str]:
    """Return the environment in which it finds the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
