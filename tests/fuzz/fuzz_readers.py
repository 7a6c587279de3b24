"""Guide the changes of a checkpoint or label cache by what they reach in the readers; run by `test_damaged_files`.

Usage: python fuzz_readers.py checkpoint|cache [options of libFuzzer, such as -max_total_time=60]
"""

import inspect
import os
import pickle
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="ultralytics-"))  # leave the user's settings alone

import atheris
from pickled import CALLS, NAMED, STEPS, VALUES, packed
from readers import cache, can_be_read, entries

from yolo_mha.pickles import NetworkUnpickler, _CacheUnpickler


def main() -> None:
    """Fuzz one reader until the time is over; libFuzzer ends the process, with another code than 0 after a finding."""
    kind = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        saved = entries(folder)
        name = next(name for name in saved if name.endswith("data.pkl"))
        valid = cache() if kind == "cache" else saved[name]
        for place in ("corpus", "read"):
            (folder / place).mkdir()
        (folder / "corpus" / "valid").write_bytes(valid)
        words = {*CALLS, *NAMED, *STEPS, *VALUES}
        lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in sorted(words))
        (folder / "words").write_text("".join(f'"{line}"\n' for line in lines))

        def once(content: bytes) -> None:
            """Read a label cache; or a checkpoint with another pickle in it, its tensors being as they were."""
            file = content if kind == "cache" else packed({**saved, name: content})
            can_be_read(kind, folder / "read" / "x.pt", file)

        for reader in (pickle._Unpickler, NetworkUnpickler, _CacheUnpickler):
            for method in filter(inspect.isfunction, vars(reader).values()):
                atheris.instrument_func(method)
        options = [f"-dict={folder / 'words'}", f"-max_len={2 * len(valid)}", "-rss_limit_mb=4096"]
        atheris.Setup([*sys.argv, *options, str(folder / "corpus")], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
