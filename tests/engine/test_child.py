import os
import signal
import time

import pytest
from torch import nn

from yolo_mha.engine.child import Child
from yolo_mha.errors import RunError
from yolo_mha.guard import guarded

CHILD = """
import json, os, sys, time

def answer(value):
    print(json.dumps(value), flush=True)

def main():
    print("a message", file=sys.stderr)
    for line in sys.stdin:
        word = json.loads(line)
        if word == "answer":
            answer({"got": word})
        elif word == "raise":
            raise ZeroDivisionError("nobody foresaw this")
        elif word == "refuse":
            print("error: No such thing.\\n  given:    this\\n  fix:      that", file=sys.stderr)
            print("Traceback", file=sys.stderr)
            sys.exit(1)
        elif word == "hang":
            answer("hanging")
            time.sleep(600)
        elif word == "end":
            os._exit(7)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start such a process; what is left of it ends with the test."""
    (tmp_path / "module_of_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    started = []

    def start(**settings) -> Child:
        started.append(Child("module_of_child", nn.Identity(), tmp_path / "log.txt", **settings))
        return started[-1]

    yield start
    for child in started:
        child.close()


def test_answering__keeps_what_libraries_print_in_the_log(tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(
        "import os\nfrom yolo_mha.engine.child import answering\n\n"
        "def main():\n    answer = answering()\n    print('printed', flush=True)\n    os.system('echo by a command')\n"
        "    answer({'got': 1})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    child = Child("noisy", nn.Identity(), tmp_path / "log.txt")
    assert child.receive() == {"got": 1}
    child.close(patience=20)
    assert (tmp_path / "log.txt").read_text().splitlines() == ["printed", "by a command"]


def test_child__answers_and_ends_with_its_input(start):
    child = start()
    child.send("answer")
    assert child.receive() == {"got": "answer"}  # and not the message, which is in the log
    assert child.poll() is None
    child.end_input()
    assert child._process.wait(20) == 0
    with pytest.raises(RunError, match="ended"):
        child.receive()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("raise", "ZeroDivisionError: nobody foresaw this"),
        ("refuse", "No such thing. this"),
        ("end", "a message"),
    ],
)
def test_child__fault_is_in_its_log(start, word, said):
    child = start(answers=False)
    child.send(word)
    assert child.fault() == said


@pytest.mark.parametrize(
    ("number", "hint"), [(signal.SIGTERM, ""), (signal.SIGKILL, ", which the system sends where memory runs out")]
)
def test_child__ended_by_a_signal_says_which(start, number, hint):
    child = start()
    child.send("answer")
    assert child.receive()  # a message is in its log
    os.kill(child._process.pid, number)
    with pytest.raises(RunError, match="ended") as caught:
        child.receive()
    assert caught.value.given == f"ended by signal {number:d} ({signal.strsignal(number)}){hint}"


def test_child__log_is_kept_on_request_and_only_its_own_part_is_read(start, tmp_path):
    for word in ("refuse", "end"):
        child = start(answers=False, append=word == "end")
        child.send(word)
        assert child.fault() == {"refuse": "No such thing. this", "end": "a message"}[word]
    assert (tmp_path / "log.txt").read_text().count("a message") == 2
    start(answers=False).end_input()
    assert "error" not in (tmp_path / "log.txt").read_text()


def test_close__waits_as_long_as_it_is_told(start):
    child = start()
    child.close(patience=20)
    assert child.poll() == 0
    child = start()
    child.send("hang")
    assert child.receive() == "hanging"
    began = time.monotonic()
    child.close(patience=0.2)
    assert child.poll() == -signal.SIGKILL
    assert time.monotonic() - began < 10


def test_child__is_guarded_whatever_it_would_inherit(tmp_path, monkeypatch):
    (tmp_path / "says.py").write_text(
        "import json, os\n\ndef main():\n    names = 'ULTRALYTICS_SAFE_LOAD', 'YOLO_AUTOINSTALL'\n"
        "    print(json.dumps([os.environ[name] for name in names]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with guarded():
        del os.environ["ULTRALYTICS_SAFE_LOAD"], os.environ["YOLO_AUTOINSTALL"]
        child = Child("says", nn.Identity(), tmp_path / "log.txt")
    assert child.receive() == ["True", "False"]
    child.close(patience=20)
