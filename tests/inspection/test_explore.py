"""The command `explore`: its page in a browser, what it serves, and bad input."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolo_mha
from yolo_mha import ConfigError, DependencyError, UnsupportedTaskError
from yolo_mha.data.beacons import draw

START = [sys.executable, "-m", "yolo_mha", "explore", "port=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The working directory of the server, with ``temporary`` for its temporary files."""
    folder = tmp_path_factory.mktemp("explore")
    (folder / "temporary").mkdir()
    return folder


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    """Where the page is served; the server ends as by Ctrl-C, and leaves nothing."""
    pytest.importorskip("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "temporary"))
        server = subprocess.Popen([*START, "other=demo-mha.pt"], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        line = server.stderr.readline()
        yield re.fullmatch(r"open (http://127\.0\.0\.1:\d+) \(stop with Ctrl-C\)\n", line)[1]
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=20)
    finally:
        server.kill()
    assert server.returncode == 130
    assert said.endswith("interrupted\n")
    faults = re.findall(r"^[\w.]+(?:Error|Exception|Warning)\b.*", said, re.MULTILINE)
    assert all("it was not uploaded by a user" in fault for fault in faults), said
    assert {file.name for file in folder.iterdir()} <= {"temporary", "pyproject.toml", "own.png"}
    assert not list((folder / "temporary").glob("yolo-mha-*"))


@pytest.fixture(scope="module")
def browser() -> Iterator:
    driver = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """The page in a browser, with what it asked the network for and what went wrong in it."""

    def __init__(self, browser, address: str, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.requests, self.faults = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("#model2-heads input")

    def upload(self, name: str, content: bytes) -> None:
        self.page.set_input_files("#upload input[type=file]", {"name": name, "mimeType": "", "buffer": content})

    def text(self, part: str) -> str:
        return self.page.inner_text(f"#model1-{part}")

    def wait(self, part: str, pattern: str) -> None:
        """Wait until the text of a part matches."""
        script = "([part, pattern]) => RegExp(pattern).test(document.querySelector('#model1-' + part).innerText)"
        self.page.wait_for_function(script, arg=[part, pattern])

    def picture(self, part: str) -> str:
        return self.page.get_attribute(f"#model1-{part} img", "src")

    def keys(self, control: str, *keys: str) -> None:
        self.page.focus(f"#model1-{control}")
        for key in keys:
            self.page.keyboard.press(key)

    def changed(self, part: str, before: str) -> None:
        """Wait for another picture."""
        script = "([part, before]) => document.querySelector('#model1-' + part + ' img').getAttribute('src') != before"
        self.page.wait_for_function(script, arg=[part, before])


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.mark.slow
def test_page__a_picture_is_explored_by_keyboard(browser, address):
    page = Page(browser, address, 1280)
    page.upload("street.png", png(draw(seed=1, index=0)[0]))
    page.wait("numbers", "inside the box")
    page.wait("scores", "blanked at random")
    first, blanked, said = page.picture("map"), page.picture("blank"), page.text("numbers")
    page.keys("detection input", "ArrowDown", "ArrowDown", "Enter")
    page.changed("map", first)
    page.changed("blank", blanked)
    assert not page.page.input_value("#model1-detection input").startswith("1: ")
    assert page.text("numbers") != said
    second = page.picture("map")
    assert second.startswith("data:image/jpeg")  # no file, which could be written again while it is sent
    page.keys("view input", "ArrowDown", "ArrowDown", "Enter")
    page.changed("map", second)
    page.keys("kind input >> nth=1", "Space")
    page.wait("numbers", "of the attention lies")
    page.keys("share input[type=range]", "ArrowRight", "ArrowRight")
    page.wait("scores", "With the 12 % of the picture")
    page.keys("heads input", "Space")
    page.wait("changes", "Of 6 detections 0 are lost")
    page.keys("heads input >> nth=1", "Space")
    page.wait("changes", "5 have another class")
    assert page.page.input_value("#model2-detection input").startswith("1: ")  # the other model is asked for itself
    assert [url for url in page.requests if not url.startswith((address, "data:", "blob:"))] == []
    assert page.faults == []


@pytest.mark.slow
@pytest.mark.slow
def test_page__controls_are_reached_by_tab(browser, address):
    page = Page(browser, address, 1280)
    where = "document.activeElement.closest('[id^=model], #upload, #sample')?.id"
    reached = []
    for _ in range(20):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate(where))
    wanted = ["upload", "sample", *(f"model1-{part}" for part in ("detection", "view", "kind", "share", "heads"))]
    assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted


@pytest.mark.slow
@pytest.mark.slow
def test_page__broken_pictures_are_refused_and_it_goes_on(browser, address):
    page, picture = Page(browser, address, 390), draw(seed=1, index=3)[0]
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    for name, content in (("text.png", b"hello"), ("cut.jpg", jpeg[: len(jpeg) // 2]), ("empty.png", b"")):
        page.page.click("#sample")
        page.wait("numbers", "inside the box")
        page.upload(name, content)
        page.wait("status", "^This file cannot be read as a picture: ")
        page.wait("numbers", "^$")
        assert page.page.input_value("#model1-detection input") == ""
        assert page.page.locator("#model1-found img, #model1-map img").count() == 0
    page.upload("one.png", png(picture[:1, :1]))
    page.wait("status", "^Nothing was detected")
    page.upload("whole.jpg", jpeg)
    page.wait("numbers", "inside the box")
    assert "Traceback" not in page.page.content()
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.faults == []


@pytest.mark.slow
def test_page__names_no_other_host(address):
    with urllib.request.urlopen(address) as answer:
        html, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self' ")
    with urllib.request.urlopen(f"{address}/theme.css") as answer:
        css = answer.read().decode()
    fetched = re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"([^\"]*)", html) + re.findall(
        r"url\(([^)]*)|@import (.*)", css
    )
    assert len(fetched) > 2
    assert not [name for name in fetched if re.match("(https?:)?//", str(name))]
    assert "googleapis" not in html + css


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "../street.png"])
def test_page__serves_no_files_of_the_machine(address, folder, path):
    (folder / "pyproject.toml").write_text("[project]")
    for name in {path, str((folder / path).resolve())}:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/gradio_api/file={name}")
        assert refused.value.code in (403, 404)


@pytest.mark.slow
def test_page__takes_no_file_of_the_machine_for_an_upload(address, folder):
    (folder / "own.png").write_bytes(png(draw(seed=1, index=0)[0]))
    file = {"path": str(folder / "own.png"), "meta": {"_type": "gradio.FileData"}}
    content = json.dumps({"data": [file], "fn_index": 0, "session_hash": "own"}).encode()
    asked = urllib.request.Request(
        f"{address}/gradio_api/queue/join", content, headers={"Content-Type": "application/json"}
    )
    urllib.request.urlopen(asked).close()
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=own") as answer:
        assert b'"success":false' in answer.read()
    assert not list((folder / "temporary").rglob("own.png"))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"model": "demo-baseline.pt"}, ConfigError, "no attention blocks that can be recorded"),
        ({"other": "demo-baseline.pt"}, ConfigError, "no attention blocks that can be recorded"),
        ({"model": "yolo11n-seg.yaml"}, UnsupportedTaskError, "box detection only"),
        ({"iou": 0.5}, ConfigError, "explore does not take iou"),
        ({"conf": 2}, ConfigError, "conf"),
        ({"port": 70000}, ConfigError, "cannot be served at this address"),
        ({"host": "198.51.100.7"}, ConfigError, "cannot be served at this address"),
        ({"host": ""}, ConfigError, "cannot be served at this address"),
        ({"host": 5}, ConfigError, "cannot be served at this address"),
    ],
)
def test_explore__bad_input(settings, error, words, capsys):
    pytest.importorskip("gradio")
    with pytest.raises(error, match=words):
        yolo_mha.explore(**{"port": 0, **settings})
    assert "open http" not in capsys.readouterr().err


def test_explore__a_port_that_is_taken():
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"host=127.0.0.1 port={port}: .*in use") as error:
            yolo_mha.explore(port=port)
    assert "port=0" in error.value.fix


def test_explore__says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(DependencyError, match=r"pip install 'yolo-mha\[ui\]'"):
        yolo_mha.explore(port=0)


def test_answers__of_a_detection_that_the_next_picture_lacks_are_empty():
    pytest.importorskip("gradio")
    from yolo_mha.inspection import explorer_page
    from yolo_mha.inspection.explorer import Explorer
    from yolo_mha.inspection.looking import Looker

    cv2.imwrite("street.png", draw(seed=1, index=0)[0])  # with six detections
    answers = object.__new__(explorer_page._Answers)
    answers.explorer = Explorer(Looker(yolo_mha.YOLO("demo-mha.pt")), "demo")
    nothing = (*explorer_page.SAME, *explorer_page.NOTHING)
    assert list(answers.look("street.png", 6, 0, True, 10)) == [nothing]
    assert answers.silence("street.png", 6, ["5:0"]) == ""
    assert "detections" in answers.silence("street.png", 5, ["5:0"])
