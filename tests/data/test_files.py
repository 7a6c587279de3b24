import os
import socket
import subprocess
import sys

import pytest
import torch

from yolo_mha.data.files import clear_unfinished, process_namespace, unfinished, whole_file, write_text
from yolo_mha.text import UNFINISHED


def test_whole_file__replaces_at_the_end(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_whole_file__leaves_nothing_after_an_error(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_whole_file__names_the_file_where_the_disk_is_full(tmp_path, small_disk):
    with pytest.raises(OSError, match="large") as caught, whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"0" * 10**6)
    assert caught.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(OSError, match=r"a\.pt"), whole_file(tmp_path / "a.pt") as temporary:
        torch.save({"a": torch.zeros(10**5)}, temporary)
    assert not list(tmp_path.iterdir())


def test_clear_unfinished__takes_what_no_process_writes_any_more(tmp_path, monkeypatch):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    monkeypatch.setattr(socket, "gethostname", lambda: "ip-10-0-0-12")  # in which numbers stand between dashes too
    begin = unfinished().partition("@")[0]
    assert begin == f"{UNFINISHED}ip-10-0-0-12.{process_namespace()}"
    left = tmp_path / f"{begin}@{process.stdout.strip()}-weights"
    left.mkdir()
    (left / "last.pt").touch()
    earlier = tmp_path / f"{unfinished()}x.pt"  # of another process that had this number
    earlier.touch()
    os.utime(earlier, (0, 0))
    here, there = tmp_path / f"{unfinished()}y.pt", tmp_path / f"{UNFINISHED}elsewhere@1-z.pt"
    other = tmp_path / f"{begin}0@{process.stdout.strip()}-x.pt"  # of another container on this host
    for kept in (here, there, other):
        kept.touch()
    clear_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([here, there, other])
    clear_unfinished(tmp_path.parent, below=1, own=True)
    assert list(tmp_path.iterdir()) == [here]
