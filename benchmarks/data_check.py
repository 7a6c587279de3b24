"""How long a dataset takes to be checked: the first time, when each image is decoded, and the second.

    python benchmarks/data_check.py folder [images]

makes a dataset of that many JPEGs of 640x480 (10,000 if not given) in a folder below, times it, and takes it away
again.
"""

import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import yaml

from yolo_mha.data.dataset import load_dataset, read_dataset

DISTINCT = 50  # pictures, copied again and again
OBJECTS = 8  # an image


def make(folder: Path, images: int) -> Path:
    """Write smoothed noise, which takes as many bytes as photographs do, with random labels."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    pictures = []
    for _ in range(DISTINCT):
        noise = rng.integers(0, 256, (120, 160, 3), np.uint8)
        picture = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
        pictures.append(cv2.imencode(".jpg", picture)[1].tobytes())
    for i in range(images):
        (folder / "images" / "val" / f"{i:06d}.jpg").write_bytes(pictures[i % DISTINCT])
        rows = [f"{rng.integers(3)} {x:.6f} {y:.6f} 0.1 0.1\n" for x, y in rng.uniform(0.1, 0.9, (OBJECTS, 2))]
        (folder / "labels" / "val" / f"{i:06d}.txt").write_text("".join(rows))
    content = {"train": "images/val", "val": "images/val", "names": ["a", "b", "c"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    print(f"{images} JPEGs of {np.mean([len(p) for p in pictures]) / 1024:.0f} KiB on average")
    return folder / "data.yaml"


def main(folder: str, images: str = "10000") -> None:
    """Make the dataset and time both."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        data = make(Path(made), int(images))
        for which in ("first", "second"):
            wall, cpu = time.perf_counter(), time.process_time()
            read_dataset(load_dataset(data), ["val"])
            print(
                f"{which} time: {time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of processor time"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
