"""Check the plugin against the oldest and the newest supported Ultralytics.

For every version an environment of its own is made, in which Ultralytics is installed; all else, torch too, comes from
the environment that runs this. In it

1. the plugin's own tests run, of all that calls Ultralytics;
2. Ultralytics' own tests, from its source distribution, run without the plugin and with it imported in every process.
   Every test has to end the same way: passed, skipped, or failed with the same type of exception.

Ultralytics' tests run offline, on inputs made here: freshly initialised models and datasets of the two pictures that
Ultralytics ships. What needs trained weights or a true download fails without the plugin as well as with it. Tests that
end differently run once more, both ways, before they count.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PROJECT = Path(__file__).resolve().parents[1]
REPORTS = PROJECT / "build" / "compatibility"
EXAMPLES = """examples:
  python tests/compatibility.py                   all, oldest and newest version; forty minutes on two idle cores
  python tests/compatibility.py 8.4.185           all, another version
  python tests/compatibility.py --only plugin     the plugin's tests alone; five minutes a version

exit codes: 0 all well; 1 a test failed or ended differently; 2 something is missing that pip cannot fetch"""

# All but those of attention, which knows nothing of YOLO, of statistics, and of this project's tools
PLUGIN_TESTS = (
    *(
        "tests/test_registry.py",
        "tests/test_guard.py",
        "tests/test_fonts.py",
        "tests/surgery",
        "tests/data",
        "tests/engine",
        "tests/scoring",
        "tests/deploy",
    ),
    *("tests/evaluation/test_compare.py", "tests/profiling", "tests/diagnosis", "tests/inspection"),
    "tests/test_cli.py",
)
PARALLEL = ("-n", "2", "--dist", "loadfile")  # as `make test` runs them

# All of Ultralytics' tests that it does not mark slow, but for these: the tests of its command line start processes for
# each of seven tasks, many minutes in all. Here two tasks stand for the seven; test_python.py and test_engine.py train,
# score, predict and export all of them within one process.
RUN_LIST = "not (test_cli and (classify or cls or depth or obb or pose or sem))"
EXTRAS = ("aiohttp", "lap", "shapely", "pytest-timeout")  # what these tests import beside this environment's packages
SECONDS_A_TEST = 300
SECONDS_A_RUN = 3600
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")  # refuses
OFFLINE["no_proxy"] = OFFLINE["NO_PROXY"] = "127.0.0.1,localhost"
IN_CHILDREN = """import os

if "PYTEST_CURRENT_TEST" in os.environ:  # pytest itself imports the plugin with -p, after its own start
    import yolo_mha
"""
SCRIPT = "from yolo_mha.cli import main\n\nmain()\n"


class Missing(Exception):
    """pip cannot fetch a package."""


class Broken(Exception):
    """An environment or a run did not come about."""


# Environment ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has its own Ultralytics.

    Attributes:
        version: Of Ultralytics.
        folder: The virtual environment.
        tests: Ultralytics' own tests.
    """

    version: str
    folder: Path
    tests: Path

    def run(self, words: Iterable[str], log: Path, home: Path, cwd: Path, **variables: str) -> tuple[int, str]:
        """Run Python in the environment, and return its exit code and what it printed.

        Args:
            words: Arguments of Python.
            log: The file that it prints to.
            home: Where Ultralytics' settings and temporary files go.
            cwd: The working directory.
            **variables: Environment variables beside those of this process.
        """
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        scripts = self.folder / "bin"
        variables = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTEST_ADDOPTS": "",
            "TMPDIR": str(home / "tmp"),
            "YOLO_AUTOINSTALL": "false",
            "YOLO_CONFIG_DIR": str(home / "config"),
            "YOLO_OFFLINE": "true",
            **variables,
        }
        command = [str(scripts / "python"), *words]
        with log.open("wb") as file:
            try:
                code = subprocess.run(
                    command, cwd=cwd, env=variables, stdout=file, stderr=subprocess.STDOUT, timeout=SECONDS_A_RUN
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
        return code, log.read_text(encoding="utf-8", errors="replace")


def make_environment(version: str, work: Path) -> Environment:
    """Make a virtual environment in which this Ultralytics comes before that of the running environment.

    Args:
        version: Of Ultralytics.
        work: A folder outside any Git repository, for Ultralytics takes one around it for its own.

    Raises:
        Missing: pip cannot fetch a package.
        Broken: Python in the environment does not import this Ultralytics, or not the plugin.
    """
    folder, wanted = work / "environment", f"ultralytics=={version}"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install = ["--python", str(folder / "bin" / "python"), "install"]
    _pip(*install, "--no-deps", wanted)
    outer = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outer))
    _pip(*install, *EXTRAS)
    script = folder / "bin" / "yolo-mha"  # tests call it, and that of the running environment runs another Ultralytics
    script.write_text(f"#!{folder / 'bin' / 'python'}\n{SCRIPT}")
    script.chmod(0o755)
    _pip("download", "--no-deps", "--no-binary", "ultralytics", "--dest", str(work), wanted)
    shutil.unpack_archive(work / f"ultralytics-{version}.tar.gz", work)
    environment = Environment(version, folder, work / f"ultralytics-{version}" / "tests")

    script = "import ultralytics as u, yolo_mha; print(); print(u.__version__); print(u.__file__)"
    code, printed = environment.run(["-c", script], work / "check.log", home=work / "check", cwd=work)
    lines = printed.splitlines()
    if code or lines[-2] != version or not Path(lines[-1]).resolve().is_relative_to(folder.resolve()):
        raise Broken(f"the environment of Ultralytics {version} imports something else:\n{printed}")
    return environment


def _pip(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr[-300:]]
        raise Missing(f"pip cannot fetch {words[-1]}, which these tests need: {errors[-1].removeprefix('ERROR: ')}")


# Tests ---------------------------------------------------------------------------------------------------------------


def junit(report: Path) -> list[str]:
    """Give the options with which pytest writes a report that `outcomes` reads; this family names a test's file."""
    return ["-o", "junit_family=xunit1", f"--junitxml={report}"]


def outcomes(report: Path) -> dict[str, str]:
    """Say how every test of a JUnit report ended.

    Args:
        report: The XML file.

    Returns:
        ``passed``, ``skipped``, or ``failed`` or ``error`` with the type of the exception, by the test's id.
    """
    ended: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('file')}::{case.get('name')}"
        outcome = "passed"
        for child in case:
            if child.tag == "skipped":
                outcome = "skipped"
            elif child.tag in ("failure", "error"):
                message = re.sub(r'^failed on \w+ with "', "", child.get("message", ""))
                kind = re.split(r"[^\w.]", message)[0].rpartition(".")[2].replace("assert", "AssertionError")
                outcome = f"{'failed' if child.tag == 'failure' else 'error'} ({kind})"
        ended[test] = f"{ended[test]}, {outcome}" if test in ended else outcome
    return ended


def differences(plain: dict[str, str], plugin: dict[str, str]) -> list[str]:
    """Name the tests that ended differently, or ran one way only."""
    return sorted(test for test in plain.keys() | plugin.keys() if plain.get(test) != plugin.get(test))


def run_pytest(
    environment: Environment, words: Iterable[str], report: Path, home: Path, cwd: Path, **variables: str
) -> dict[str, str]:
    """Run pytest in the environment, keep its log beside the report, and say how every test ended.

    Args:
        environment: Where to run.
        words: Arguments of pytest.
        report: The JUnit report to write.
        home: Where Ultralytics' settings and temporary files go.
        cwd: The working directory.
        **variables: Environment variables beside those of this process.

    Raises:
        Broken: pytest did not come to its end.
    """
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    options = ["-p", "no:cacheprovider", "--tb=short", "-ra", *junit(report)]
    log = report.with_suffix(".log")
    code, printed = environment.run(["-m", "pytest", *words, *options], log, home, cwd, **variables)
    if code not in (0, 1) or not report.is_file():
        raise Broken(f"pytest ended with {code} (see {log}):\n{printed[-2000:]}")
    return outcomes(report)


def make_inputs() -> None:
    """Make in the working directory what Ultralytics' tests would download: untrained weights and small datasets.

    Runs in the environment under test, and sets Ultralytics' folders for weights, datasets and runs.
    """
    import cv2
    import numpy as np
    import torch
    from ultralytics import YOLO, settings
    from ultralytics.cfg import TASK2MODEL
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import ASSETS

    weights, datasets = Path("weights").resolve(), Path("datasets").resolve()
    settings.update(weights_dir=str(weights), datasets_dir=str(datasets), runs_dir=str(Path("runs").resolve()))

    torch.manual_seed(0)
    spaces = weights / "path with spaces"
    spaces.mkdir(parents=True)
    for name in (*TASK2MODEL.values(), "yolo11n.pt", "yolo26s.pt", "yolo26s-seg.pt"):
        YOLO(name.replace(".pt", ".yaml")).save(weights / name)
    gray = YOLO("yolo11n.yaml")
    gray.model = DetectionModel("yolo11n.yaml", ch=1, verbose=False)
    gray.save(weights / "yolo11n-grayscale.pt")
    shutil.copy(weights / "yolo26n.pt", spaces)

    quadrangle = "0 0.3 0.2 0.7 0.2 0.7 0.8 0.3 0.8\n"  # read as a box, an outline or a rotated box
    person = f"0 0.5 0.5 0.4 0.6{' 0.5 0.5 2' * 17}\n"
    labels = {"coco8": quadrangle, "coco8-seg": quadrangle, "dota8": quadrangle, "coco8-pose": person}
    pictures = [cv2.imread(str(ASSETS / name)) for name in ("bus.jpg", "zidane.jpg")]
    for split, (i, picture) in itertools.product(("train", "val"), enumerate(pictures * 2)):
        ramp = np.zeros(picture.shape[:2], int) + np.arange(picture.shape[1])
        images = {f"{name}/images/{split}/{i}.jpg": picture for name in (*labels, "cityscapes8", "depth8-png")}
        images[f"imagenet10/{split}/class{i}/0.jpg"] = picture
        images[f"cityscapes8/masks/{split}/{i}.png"] = (ramp // 100 + 7).astype(np.uint8)
        images[f"depth8-png/depth/{split}/{i}.png"] = (ramp + 1000).astype(np.uint16)
        for name, image in images.items():
            (datasets / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(datasets / name), image)
        for name, label in labels.items():
            (datasets / name / "labels" / split).mkdir(parents=True, exist_ok=True)
            (datasets / name / "labels" / split / f"{i}.txt").write_text(label)


def run_ultralytics(environment: Environment, home: Path, report: Path, *tests: str, plugin: bool) -> dict[str, str]:
    """Run Ultralytics' own tests offline.

    Args:
        environment: Where to run.
        home: A folder of this way's own; the first run fills it with copies of the tests and with their inputs.
        report: The JUnit report to write.
        *tests: Files or ids; all of the run list if not given.
        plugin: Import the plugin in pytest and in every process that a test starts.
    """
    if not home.is_dir():
        shutil.copytree(environment.tests, home / "tests")
        (home / "plugin").mkdir()
        (home / "plugin" / "sitecustomize.py").write_text(IN_CHILDREN)
        script = ["-c", "import compatibility; compatibility.make_inputs()"]
        log, tools = home / "inputs.log", str(Path(__file__).parent)
        code, printed = environment.run(script, log, home, cwd=home, PYTHONPATH=tools)
        if code:
            raise Broken(f"the inputs of Ultralytics' tests were not made:\n{printed}")
    variables = {**OFFLINE, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": ""}
    words = [*(tests or ["tests"]), "-k", RUN_LIST, f"--timeout={SECONDS_A_TEST}"]
    if plugin:
        words += ["-p", "yolo_mha"]
        variables["PYTHONPATH"] = str(home / "plugin")
        script = ["-c", "import sys; sys.exit('yolo_mha' not in sys.modules)"]
        code, printed = environment.run(script, home / "child.log", home, home, PYTEST_CURRENT_TEST="a", **variables)
        if code:
            raise Broken(f"the plugin is not imported in the processes that a test starts:\n{printed}")
    return run_pytest(environment, words, report, home, home, **variables)


def run_both_ways(environment: Environment, work: Path, reports: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Run Ultralytics' own tests without and with the plugin, both at once, and those that differ once more.

    Returns:
        How every test ended without the plugin, and with it.
    """

    def run(name: str, tests: Iterable[str] = (), again: str = "") -> dict[str, str]:
        report = reports / f"ultralytics-{name}{again}.xml"
        return run_ultralytics(environment, work / name, report, *tests, plugin=name == "plugin")

    with ThreadPoolExecutor() as pool:
        plain, plugin = pool.map(run, ("plain", "plugin"))
        if differ := differences(plain, plugin):
            say(environment.version, f"{len(differ)} of Ultralytics' tests end differently; once more: {differ}")
            functions = sorted({test.partition("[")[0] for test in differ})
            again = [pool.submit(run, name, functions, "-again") for name in ("plain", "plugin")]
            for ended, once_more in zip((plain, plugin), again, strict=True):
                ended.update(once_more.result())
    return plain, plugin


# Report --------------------------------------------------------------------------------------------------------------


def say(version: str, text: str) -> None:
    """Print a line of progress."""
    print(f"Ultralytics {version}: {text}", flush=True)


def check_plugin(environment: Environment, work: Path, reports: Path) -> bool:
    """Run the plugin's tests, print their numbers, and say whether all is well."""
    start = time.monotonic()
    ended = run_pytest(environment, [*PARALLEL, *PLUGIN_TESTS], reports / "plugin.xml", work / "own", PROJECT)
    bad = {test: outcome for test, outcome in ended.items() if outcome not in ("passed", "skipped")}
    counts = Counter(ended.values())
    say(
        environment.version,
        f"the plugin's tests: {counts['passed']} passed, {len(bad)} failed, {counts['skipped']} skipped "
        f"({time.monotonic() - start:.0f} s)",
    )
    for test, outcome in bad.items():
        print(f"  {outcome}: {test}")
    return not bad and counts["passed"] > 0


def check_ultralytics(environment: Environment, work: Path, reports: Path) -> bool:
    """Run Ultralytics' tests both ways, print their numbers, and say whether they end the same."""
    start = time.monotonic()
    plain, plugin = run_both_ways(environment, work, reports)
    differ = differences(plain, plugin)
    counts = Counter(outcome.partition(" ")[0] for test, outcome in plain.items() if test not in differ)
    say(
        environment.version,
        f"Ultralytics' own tests: {len(plain.keys() | plugin.keys())} in all; both ways {counts['passed']} passed, "
        f"{counts['failed'] + counts['error']} failed, {counts['skipped']} skipped; {len(differ)} differ "
        f"({time.monotonic() - start:.0f} s)",
    )
    for test in differ:
        print(f"  {plain.get(test, 'not run')} without the plugin, {plugin.get(test, 'not run')} with it: {test}")
    return not differ and counts["passed"] > 0


CHECKS = {"plugin": check_plugin, "ultralytics": check_ultralytics}


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and return the exit code.

    Args:
        arguments: The words after the script's name; those of the process if not given.
    """
    from yolo_mha.registry import ULTRALYTICS_MIN, ULTRALYTICS_TESTED

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    supported = [ULTRALYTICS_MIN, ULTRALYTICS_TESTED]
    parser.add_argument("versions", nargs="*", default=supported, help=f"of Ultralytics; default {supported}")
    parser.add_argument("--only", choices=CHECKS, help="one of the two checks")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="folder of reports and logs; default %(default)s")
    settings = parser.parse_args(arguments)

    well = True
    for version in settings.versions:
        reports = (settings.reports / version).resolve()
        try:
            with tempfile.TemporaryDirectory(prefix="compatibility-") as folder:
                say(version, "making an environment")
                environment = make_environment(version, Path(folder))
                for name, check in CHECKS.items():
                    if settings.only in (None, name):
                        say(version, f"running the tests of {name}; logs are in {reports}")
                        well &= check(environment, Path(folder), reports)
        except Missing as e:
            print(e, file=sys.stderr)
            return 2
        except Broken as e:
            print(f"Ultralytics {version}: {e}", file=sys.stderr)
            well = False
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
