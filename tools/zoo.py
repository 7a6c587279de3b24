"""Measure what the models of cfg/models cost: python tools/zoo.py writes benchmarks/results/zoo.json.

Parameters and operations are counted for every scale. Latency is that of scale n, for a whole family side by side, on
this machine's CPU (`yolo_mha.profiling.cost.measure`); run nothing else meanwhile. A second instance of the model
without attention (A/A) shows the noise.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from make_models import FAMILIES, PLACEMENTS
from ultralytics.utils.torch_utils import get_cpu_info

import yolo_mha
from yolo_mha.data.files import write_text
from yolo_mha.profiling.cost import count_gflops, measure

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "zoo.json"
AGAIN = "again"
# by family its models, the one without attention first; its scales, the one that is timed first; and the image size
ZOO: dict[str, tuple[list[str], Sequence[str], int]] = {
    family: ([f"{family}.yaml", *(f"{family}-mha-{placement}.yaml" for placement in PLACEMENTS)], "nsmlx", 640)
    for family in FAMILIES
}
ZOO["demo"] = (["demo-baseline.yaml", "demo-mha.yaml"], [""], 192)


def build(name: str, scale: str) -> Any:
    """Build a model, with its scale letter in its name."""
    return yolo_mha.YOLO(re.sub(r"(\d+)", rf"\1{scale}", name, count=1)).model


def count(name: str, scale: str, imgsz: int) -> dict[str, Any]:
    """Count parameters, as trained, and operations (a multiply-add is two) of one image."""
    model = build(name, scale)
    return {"parameters": sum(p.numel() for p in model.parameters()), "gflops": round(count_gflops(model, imgsz), 3)}


def time_family(family: str) -> dict[str, dict[str, Any]]:
    """Time the models of a family in turn; the first one again is the A/A."""
    names, scales, imgsz = ZOO[family]
    costs = measure({name: build(name.removesuffix(AGAIN), scales[0]) for name in [*names, names[0] + AGAIN]}, imgsz)
    return {
        name: {
            "ms": round(cost.latency_ms, 2),
            "ratio": round(cost.latency_ratio, 3),
            "range": [round(end, 3) for end in cost.ratio_range],
        }
        for name, cost in costs.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Count and measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-latency", action="store_true", help="count only, where the machine is busy")
    parser.add_argument("--only", choices=ZOO, help="one family")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default %(default)s")
    settings = parser.parse_args(arguments)
    families: dict[str, Any] = {}
    for family in ZOO if settings.only is None else [settings.only]:
        names, scales, imgsz = ZOO[family]
        counts = {name: {scale: count(name, scale, imgsz) for scale in scales} for name in names}
        latency = {} if settings.no_latency else time_family(family)
        families[family] = {"imgsz": imgsz, "counts": counts, "latency": latency}
        print(family, json.dumps(families[family]), flush=True)
    versions = {name: metadata.version(name) for name in ("torch", "ultralytics")}
    machine = {"CPU": get_cpu_info(), "threads": torch.get_num_threads(), "system": platform.system()}
    record = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "environment": versions if settings.no_latency else {**versions, **machine},
        "families": families,
    }
    write_text(settings.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
