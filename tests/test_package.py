"""What users rely on: public names, files that travel with the package, baselines that are not ours."""

import hashlib
import os
import pickletools
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from ultralytics.utils import ROOT as ULTRALYTICS

import yolo_mha
from yolo_mha import errors
from yolo_mha.evaluation.plan import build_arms
from yolo_mha.evaluation.recipe import read_recipe
from yolo_mha.paths import find_cfg, shipped

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import release_weights
import study_weights

PROJECT = Path(__file__).parents[1]


def test_public_names__are_all_there():
    words = """
        YOLO insert remove register Insertion Surgery Transfer
        ConvBlock CrossScaleMHA MultiHeadAttention S2Attention SpatialMHA SpatialMHABlock
        prepare_data doctor train val predict track export benchmark compare estimate run_recipe
        train_run compare_on_ray predict_on_ray comparison_status emit_jobs BulkPrediction SingleRun Status JobFiles
        explain explore faithfulness Explanation Faithfulness Recorder heads HeadRanking prune Pruned
        PreparedData Diagnosis TrainResult ValResult PredictResult ExportResult BenchmarkResult Comparison Estimate
        Result
        __version__
    """
    faults = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert sorted(yolo_mha.__all__) == sorted([*words.split(), *faults])
    for name in yolo_mha.__all__:
        value = getattr(yolo_mha, name)
        assert value.__doc__
        if name.endswith(("Result", "Comparison", "Estimate", "Diagnosis", "Surgery", "Transfer")):
            assert issubclass(value, yolo_mha.Result)
    with pytest.raises(AttributeError):
        yolo_mha.nothing  # noqa: B018


def test_public_names__are_no_modules_of_the_package():
    """Importing the module `yolo_mha.x` would put it in the place of a function `x`."""
    modules = {path.stem for path in Path(yolo_mha.__file__).parent.iterdir()}
    assert not modules & set(yolo_mha.__all__)


def test_docs__examples_in_pytorch_run():
    page = (PROJECT / "docs" / "how-to" / "insert.md").read_text(encoding="utf-8")
    code = next(c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "MultiHeadAttention(" in c)
    names: dict = {}
    exec(code, names)
    assert names["out"].shape == (2, 100, 256)
    assert names["weights"].shape == (2, 8, 100, 400)


def test_import__is_light():
    """Opening a checkpoint imports the package, and --help the command line: without what only commands need."""
    script = """
import sys, yolo_mha
print([m for m in ("pycocotools", "typer", "yolo_mha.engine") if m in sys.modules])
import yolo_mha.cli
commands = ("engine.settings", "engine.model", "scoring", "deploy", "diagnosis", "evaluation")
print([m for m in ("pycocotools", "matplotlib.figure", *(f"yolo_mha.{c}" for c in commands)) if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["[]", "[]"]


@pytest.mark.parametrize(("family", "folder"), [("yolov8", "v8"), ("yolo11", "11")])
def test_p5_models__are_the_baseline_with_one_row_and_no_way_past_it(family, folder):
    ours = yaml.safe_load(find_cfg("models", f"{family}n-mha-p5.yaml").read_text())
    base = yaml.safe_load((ULTRALYTICS / "cfg" / "models" / folder / f"{family}.yaml").read_text())
    host = len(base["backbone"]) - 1

    def shifted(source):
        if isinstance(source, list):
            return [shifted(s) for s in source]
        return source + 1 if source >= host else source

    assert ours["backbone"] == [*base["backbone"], [-1, 1, "SpatialMHABlock", []]]
    assert ours["head"] == [[shifted(row[0]), *row[1:]] for row in base["head"]]
    assert ours["scales"] == base["scales"]
    assert ours["nc"] == base["nc"]
    sources = [s for row in ours["head"] for s in (row[0] if isinstance(row[0], list) else [row[0]])]
    assert host not in sources
    assert host + 1 in sources


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A copy of the project with weights of a study, and the folder of the source archive and the wheel made of it."""
    left_out = shutil.ignore_patterns(".git", ".venv", "runs", "build", "dist", "site", ".*_cache", "__pycache__")
    copy = shutil.copytree(PROJECT, tmp_path_factory.mktemp("packages") / "project", ignore=left_out)
    (copy / "weights" / "study.pt").write_bytes(b"")
    out = copy.with_name("made")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return copy, out


@pytest.mark.slow
def test_wheel__has_the_package_and_the_weights_of_the_demo_alone(packages):
    copy, out = packages
    names = {name for name in zipfile.ZipFile(next(out.glob("*.whl"))).namelist() if ".dist-info/" not in name}
    own = {file.relative_to(copy).as_posix() for file in copy.glob("yolo_mha/**/*") if file.is_file()}
    shipped = {f"yolo_mha/{file.relative_to(copy).as_posix()}" for file in copy.glob("cfg/**/*.yaml")}
    weights = {f"yolo_mha/weights/{name}" for name in ("README.md", *release_weights.FILES.values())}
    assert names == own | shipped | weights
    assert {
        "yolo_mha/cfg/compare/demo.yaml",
        "yolo_mha/deploy/onnx_infer.py",
        "yolo_mha/evaluation/compare.schema.json",
        "yolo_mha/evaluation/templates/report.html.j2",
        "yolo_mha/inspection/templates/explain.html.j2",
        "yolo_mha/py.typed",
    } <= names


@pytest.mark.slow
def test_sdist__has_all_that_tests_and_documentation_need(packages):
    copy, out = packages
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    own = {file.relative_to(copy).as_posix() for file in copy.glob("*/**/*") if file.is_file()}
    own |= {file.name for file in copy.iterdir() if file.is_file()}
    assert {name for name in own - names if not name.startswith(".")} == set()


@pytest.mark.slow
def test_packages__pass_the_checks_of_the_index(packages):
    pytest.importorskip("twine")
    files = map(str, packages[1].iterdir())
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_weights__match_their_cards():
    cards = release_weights.read_cards()
    files = sorted(p.name for p in shipped("weights").glob("*.pt"))
    assert files == sorted(cards)
    for name, card in cards.items():
        assert hashlib.sha256((shipped("weights") / name).read_bytes()).hexdigest() == card["sha256"]
        assert sum(p.numel() for p in yolo_mha.YOLO(name).model.parameters()) == card["parameters"]
        assert {"model", "data", "recipe", "seed", "metrics"} <= card.keys()
    assert (shipped("weights") / "README.md").read_text(encoding="utf-8") == release_weights.readme(cards)


def test_weights_of_studies__match_their_cards():
    cards, folder = study_weights.read_cards(), study_weights.WEIGHTS
    assert sorted(file.name for file in folder.glob("*.pt")) == sorted(cards) != []
    for name, card in cards.items():
        content = (folder / name).read_bytes()
        assert len(content) <= 8e6
        assert hashlib.sha256(content).hexdigest() == card["sha256"]
        assert sum(p.numel() for p in yolo_mha.YOLO(folder / name).model.parameters()) == card["parameters"]
    assert (folder / "README.md").read_text(encoding="utf-8") == study_weights.readme(cards)


def test_weights__are_the_arms_of_the_demo():
    arms = build_arms(read_recipe("demo.yaml", {}))
    for arm, name in release_weights.FILES.items():
        state, shapes = yolo_mha.YOLO(name).model.state_dict(), arms[arm].network.state_dict()
        assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in shapes.items()}


@pytest.mark.parametrize(
    "name", [*release_weights.FILES.values(), *(f"studies/{n}" for n in study_weights.read_cards())]
)
def test_weights__name_no_path_of_the_machine(name):
    with zipfile.ZipFile(PROJECT / "weights" / name) as archive:
        content = pickletools.genops(archive.read("archive/data.pkl"))
        words = [word for _, word, _ in content if isinstance(word, str)]
    assert not [word for word in words if os.path.isabs(word)]


@pytest.mark.slow
def test_weights__score_what_their_cards_say():
    for name, card in release_weights.read_cards().items():
        found = yolo_mha.val(name, "beacons", imgsz=192, batch=32, device="cpu", plots=False).coco.metrics
        assert found == pytest.approx(card["metrics"], abs=2e-3)  # another processor adds in another order
