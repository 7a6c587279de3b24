"""Run a study: its data, its base and its comparisons below .study/, and what they found into studies/.

Usage: python tools/study.py STUDY [COMPARISON ...]

A study is a folder of studies/ with a study.yaml. Its data is copied from the folder that YOLO_MHA_TEST_DATA names. The
same command goes on after an interruption; without COMPARISON all of them are run, one after the other. After "confirm"
latency and memory of its first arm are measured beside the baseline's.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from yolo_mha.data.files import read_json, write_text
from yolo_mha.errors import ConfigError
from yolo_mha.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[1]
STUDIES, WORK = ROOT / "studies", ROOT / ".study"
WORTH = 0.01  # AP that twice the epochs must add to be taken
KEPT = ("compare.json", "report.md", "charts/*.svg")
SUFFIXES = (".jpg", ".png", ".bmp")


def run(*words: object) -> None:
    """Call the command line in the folder of the work, where the paths of recipes begin."""
    subprocess.run([sys.executable, "-m", "yolo_mha", *map(str, words)], cwd=WORK, check=True)


def copy_data(name: str) -> None:
    """Copy a dataset once, because Ultralytics writes beside what it reads."""
    target, source = WORK / "data" / name, os.environ.get("YOLO_MHA_TEST_DATA")
    if target.exists():
        return
    if not source or not Path(source, name).is_dir():
        sys.exit(f"No dataset {name}: let YOLO_MHA_TEST_DATA name the folder that holds it (now: {source})")
    aside = target.with_name(f".{name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(Path(source, name), aside)
    aside.rename(target)


def set_aside(data: str, every: int) -> str:
    """Write a dataset YAML whose validation images are every so many-th of the training images, and return its path."""
    folder = WORK / data
    content = read_yaml(folder / "data.yaml", ConfigError, expected="train, names")
    images = sorted(file for file in (folder / content["train"]).iterdir() if file.suffix in SUFFIXES)
    target = WORK / f"{data}-set-aside"
    for split, chosen in (("val", images[::every]), ("train", [i for k, i in enumerate(images) if k % every])):
        write_text(target / f"{split}.txt", "".join(f"{file}\n" for file in chosen))
    lists = {"train": "train.txt", "val": "val.txt"}
    write_text(target / "data.yaml", yaml.safe_dump({**lists, "names": content["names"]}))
    return f"{data}-set-aside/data.yaml"


def train(folder: Path, settings: dict[str, Any]) -> Path:
    """Train into a folder, or go on with it, and return its last checkpoint."""
    last = folder / "weights" / "last.pt"
    if not (folder / "done").exists():
        words = {**settings, "project": folder.parent, "name": folder.name, "exist_ok": True}
        run("train", *([f"resume={last}"] if last.exists() else [f"{k}={v}" for k, v in words.items()]))
        (folder / "done").touch()
    return last


def train_base(name: str, settings: dict[str, Any]) -> None:
    """Train the base for each number of epochs, and take the larger where it scores clearly more.

    Args:
        name: The study.
        settings: Of `yolo-mha train`, with one or two numbers of epochs; with ``choose_on`` they are compared on
            training images that are set aside, one of so many, and the base is then trained on all of them.
    """
    chosen = WORK / "base" / f"{name}.pt"
    if chosen.exists():
        return
    numbers, every = settings.pop("epochs"), settings.pop("choose_on", None)
    known = {**settings, "data": set_aside(settings["data"], every)} if every else settings
    prefix, scores = WORK / "base" / (f"{name}-set-aside" if every else name), {}
    for epochs in numbers if isinstance(numbers, list) else [numbers]:
        folder = Path(f"{prefix}-{epochs}")
        last = train(folder, {**known, "epochs": epochs})
        where = {"project": folder, "name": "val", "exist_ok": True, "plots": False}
        words = {"model": last, "data": known["data"], "imgsz": settings["imgsz"], **where}
        run("val", *(f"{k}={v}" for k, v in words.items()))
        scores[epochs] = read_json(folder / "val" / "scores.json", "scores")["metrics"]["AP"]
    least, most = min(scores), max(scores)
    taken = most if scores[most] - scores[least] >= WORTH else least
    shutil.copy(train(WORK / "base" / f"{name}-{taken}", {**settings, "epochs": taken}), chosen)
    digest = hashlib.sha256(chosen.read_bytes()).hexdigest()
    images = f"one training image of {every}, set aside" if every else "validation images"
    found = {"AP by epochs": scores, "scored on": images, "taken": taken, "sha256": digest}
    write_text(STUDIES / name / "base-found.yaml", yaml.safe_dump(found, sort_keys=False))


def keep(name: str, folder: Path) -> None:
    """Keep the reports of a comparison, without paths of this machine, and the hashes of its packed predictions."""
    target = STUDIES / name / folder.name
    for file in (file for kept in KEPT for file in folder.glob(kept)):
        text = file.read_text(encoding="utf-8").replace(str(WORK), ".study")
        write_text(target / file.relative_to(folder), text)
    lines = []
    for file in sorted(folder.glob("*/*/seed*/predictions.json")):
        packed = WORK / "kept" / name / folder.name / f"{'-'.join(file.relative_to(folder).parts[:3])}.json.gz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {packed.name.removesuffix('.gz')}\n")
    write_text(target / "predictions.sha256", "".join(lines))


def measure(name: str, folder: Path) -> None:
    """Measure latency and memory of the arm that a comparison is about, beside its baseline's; first seed of each."""
    found = read_json(folder / "compare.json", "comparison")
    arm, against = (found["contrasts"][0][key] for key in ("arm", "against"))
    last = {run["arm"]: folder / run["weights"] for run in reversed(found["runs"])}
    what = {"model": last[arm], "baseline": last[against], "sizes": found["recipe"]["train"]["imgsz"]}
    where = {"project": folder.parent, "name": "benchmark", "exist_ok": True}
    run("benchmark", *(f"{k}={v}" for k, v in {**what, "formats": "pytorch,onnx", "rounds": 50, **where}.items()))
    text = (folder.with_name("benchmark") / "benchmark.json").read_text(encoding="utf-8").replace(str(WORK), ".study")
    write_text(STUDIES / name / f"benchmark-{arm}.json", text)


def main(name: str, comparisons: list[str]) -> None:
    """Run a study, or some of its comparisons."""
    study = yaml.safe_load((STUDIES / name / "study.yaml").read_text(encoding="utf-8"))
    copy_data(name)
    if base := study.get("base"):
        train_base(name, base)
    for comparison in comparisons or study["comparisons"]:
        project = WORK / "runs" / name
        run("compare", STUDIES / name / f"{comparison}.yaml", f"project={project}", f"name={comparison}")
        if others := list(project.glob(f"{comparison}-*")):
            sys.exit(
                f"{comparison}.yaml was changed after its runs began. Remove {project / comparison} or {others[0]}."
            )
        keep(name, project / comparison)
        if comparison == "confirm":
            measure(name, project / comparison)


if __name__ == "__main__":
    known = sorted(file.parent.name for file in STUDIES.glob("*/study.yaml"))
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.exit(f"{__doc__}\nStudies: {', '.join(known)}")
    main(sys.argv[1], sys.argv[2:])
