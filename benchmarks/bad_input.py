"""Give wrong files and settings to yolo-mha and to stock Ultralytics, and count what becomes of them.

Every case is a small folder and one command (`bad_input_cases.py`). Each command runs in a process of its own, which is
forked from one that has imported the library, with limits of time and memory and as if there were no network. What it
printed, its exit code and its folder are then judged by one rule for both:

- clear error: it fails without a traceback, and its message names what was given;
- skipped and named: it goes on, and names what it left out or did not take as it was given;
- code ran: the file made the program write a marker, whatever else happened;
- traceback: lines of code, behind which the last line may name what was given;
- unclear error: it names nothing of what was given;
- accepted: it ends well and says nothing, which is a matter of taste for a YAML in UTF-16 or of 4 MiB;
- hung or killed: it reached a limit, or the system ended it.

For yolo-mha anything but the first two is a fault, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

EXAMPLES = """examples:
  python benchmarks/bad_input.py                       all cases; about twenty minutes on two cores
  python benchmarks/bad_input.py --kind checkpoints    one class of them, with what was printed where it is a fault
  python benchmarks/bad_input.py --tool yolo-mha       without stock Ultralytics
"""
TOOLS = ("yolo-mha", "yolo")
CLEAR, SKIPPED = "clear error", "skipped and named"
RAN, NAMED, TRACEBACK = "code ran", "traceback that names it", "traceback"
UNCLEAR, ACCEPTED, HUNG = "unclear error", "accepted", "hung or killed"
OUTCOMES = (CLEAR, SKIPPED, RAN, NAMED, TRACEBACK, UNCLEAR, ACCEPTED, HUNG)
SECONDS = 60
MEMORY = 4 * 2**30  # address space beyond that of the process before the case
SHOWN = 1500  # characters of what a fault printed
# A line of a message, and the lines below it that are indented.
SAYS = r"(?im)^.*(?:error|warning|given|expected|fix|skip|corrupt|ignor|fail|created|\bno\b|not |is a ).*(?:\n[ \t].*)*"
ONCE = ("torch._dynamo", "torch.onnx", "torchvision", "matplotlib.pyplot", "requests")  # imported before forking
RESULTS = Path(__file__).parent / "results" / "bad_input.md"


def run(tool: str, root: Path) -> None:
    """Run the cases below a folder, each in a forked process.

    Args:
        tool: One of `TOOLS`.
        root: It has a folder for each case, and ``cases.json`` with their words.
    """
    for module in ONCE:
        importlib.import_module(module)
    if tool == "yolo-mha":
        import yolo_mha.deploy.export
        import yolo_mha.evaluation.compare  # noqa: F401  (once for all)
        from yolo_mha.cli import main
    else:
        from ultralytics import cfg
        from ultralytics.models.yolo import detect as _  # noqa: F401

        def main(words: list[str]) -> None:
            sys.argv[:] = ["yolo", *words]  # the list that Ultralytics holds
            cfg.entrypoint()

    for name, words in json.loads((root / "cases.json").read_text()).items():
        child = os.fork()
        if not child:
            _one(main, words, root / name)
        code, ends = None, time.monotonic() + SECONDS
        while code is None and time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):  # also what it started
            os.killpg(child, signal.SIGKILL)
        if code is None:
            os.waitpid(child, 0)
        (root / f"{name}.code").write_text(json.dumps(code))


def _one(main, words: list[str], folder: Path) -> None:
    """Be the process of one case."""
    os.setsid()
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)
    printed = os.open(f"{folder}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(printed, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 0
    try:
        main(words)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:  # as Python ends by itself
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def judge(text: str, code: int | None, ran: bool, names: tuple[str, ...]) -> str:
    """Say which of `OUTCOMES` a case had.

    Args:
        text: All that was printed.
        code: The exit code; None where time ran out.
        ran: Whether the marker is there.
        names: What a clear message has at least one of.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    told = re.findall(SAYS, text)
    named = any(name in block for name in names for block in told)
    if ran:
        return RAN
    if code is None or code < 0:
        return HUNG
    if "Traceback (most recent call last)" in text or "unexpected error: " in text:
        last = [line for line in text[text.rfind("\n  File ") :].splitlines() if not line.startswith(" ")]
        return NAMED if any(name in line for name in names for line in last) else TRACEBACK
    if code and not re.search("(?m)^skipped", text):
        return CLEAR if named else UNCLEAR
    return SKIPPED if named else ACCEPTED


def main() -> None:
    """Write the cases, run them, and print and write the table."""
    from bad_input_cases import MARKER, cases

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", help="one class of cases")
    parser.add_argument("--tool", choices=TOOLS, help="one program")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep what was printed there, and go on with what is kept"
    )
    given = parser.parse_args()
    chosen = [case for case in cases() if given.kind in (None, case.kind)]
    with contextlib.ExitStack() as stack:
        root = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bad-input-")))
        outcomes: dict[str, dict[int, str]] = {}
        servers = {}
        for tool in TOOLS if given.tool is None else (given.tool,):
            folder, words = (root / tool).resolve(), {}
            for i, case in enumerate(chosen):
                if (tool == "yolo-mha" or case.stock) and not (folder / f"{i}.code").exists():
                    shutil.rmtree(folder / str(i), ignore_errors=True)
                    case.lay_out(folder / str(i))
                    words[str(i)] = shlex.split(case.command)
            (folder / "settings").mkdir(parents=True, exist_ok=True)
            (folder / "cases.json").write_text(json.dumps(words))
            environment = {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(folder / "settings"), "OMP_NUM_THREADS": "1"}
            servers[tool] = subprocess.Popen(
                [sys.executable, __file__, "--run", tool, str(folder)], env={**os.environ, **environment}
            )
            outcomes[tool] = {i: "" for i, case in enumerate(chosen) if tool == "yolo-mha" or case.stock}
        for tool, server in servers.items():
            if server.wait():
                sys.exit(f"error: the process of {tool} ended with {server.returncode}")
            for i in outcomes[tool]:
                folder = root / tool / str(i)
                text = Path(f"{folder}.txt").read_text(errors="replace")
                code = json.loads(Path(f"{folder}.code").read_text())
                outcomes[tool][i] = judge(text, code, (folder / MARKER).exists(), chosen[i].names)
                if tool == "yolo-mha" and outcomes[tool][i] not in (CLEAR, SKIPPED):
                    print(
                        f"\n{chosen[i].kind}: {chosen[i].name}: {outcomes[tool][i]} (exit code {code})\n{text[-SHOWN:]}"
                    )
        kinds = list(dict.fromkeys(case.kind for case in chosen))
        rows = [(tool, kind, *_counts(tool, kind, chosen, outcomes)) for kind in kinds for tool in outcomes]
        rows += [
            (tool, "all", *map(sum, zip(*(r[2:] for r in rows if r[0] == tool), strict=True))) for tool in outcomes
        ]
    _show(rows)
    if given.kind is given.tool is None:
        _write(rows, chosen, outcomes)
    sys.exit(any(sum(row[5:]) for row in rows if row[0] == "yolo-mha"))


def _counts(tool: str, kind: str, chosen: list, outcomes: dict[str, dict[int, str]]) -> list[int]:
    """Return how many cases of a class were tried, and how many had each outcome."""
    count = Counter(outcome for i, outcome in outcomes[tool].items() if chosen[i].kind == kind)
    return [count.total(), *(count[outcome] for outcome in OUTCOMES)]


def _show(rows: list[tuple]) -> None:
    table = Table("program", "class", "tried", *OUTCOMES)
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=150).print(table)


def _write(rows: list[tuple], chosen: list, outcomes: dict[str, dict[int, str]]) -> None:
    """Write the table, and below it the outcome of every case."""
    from importlib.metadata import version

    lines = [
        "# Wrong input",
        "",
        "`python benchmarks/bad_input.py`, which says what the outcomes mean. A command that stock Ultralytics",
        f"({version('ultralytics')}) does not have was not given to it. Limits: {SECONDS} s, {MEMORY >> 30} GiB.",
        "",
        "| " + " | ".join(["class", "program", "tried", *OUTCOMES]) + " |",
        "|---" * (3 + len(OUTCOMES)) + "|",
        *("| " + " | ".join(map(str, [row[1], row[0], *row[2:]])) + " |" for row in rows),
        "",
        "| class | case | yolo-mha | stock |",
        "|---|---|---|---|",
    ]
    for i, case in enumerate(chosen):
        name = case.name.replace("|", "\\|")
        lines.append(f"| {case.kind} | {name} | {outcomes['yolo-mha'][i]} | {outcomes['yolo'].get(i, '')} |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
