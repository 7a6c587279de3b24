"""README and the site: short enough, commands that exist, links that lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import ROOT as ULTRALYTICS

import yolo_mha
from yolo_mha.engine.own_settings import BLOCK_OPTIONS, BLOCKS, COMMANDS
from yolo_mha.registry import ULTRALYTICS_MIN, ULTRALYTICS_TESTED

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCKS_OF_CODE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_readme__is_read_in_two_minutes():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_pages__name_commands_and_settings_that_exist(page):
    known = {*DEFAULT_CFG_DICT, *(option.name for option in BLOCK_OPTIONS), BLOCKS.name}
    for language, code in BLOCKS_OF_CODE.findall(page.read_text(encoding="utf-8")):
        for line in code.splitlines() if language in ("bash", "sh") else ():
            words = shlex.split(line, comments=True)
            if words[:1] != ["yolo-mha"] or words[1].startswith("-"):
                continue
            assert words[1] in COMMANDS, line
            own = {setting.name for setting in (*COMMANDS[words[1]].own, *COMMANDS[words[1]].options)}
            for word in words[2:]:
                name, equals, _ = word.partition("=")
                assert not equals or name in own | known, line


def test_start__states_the_versions_that_are_required_and_tested():
    page = (PROJECT / "docs" / "start.md").read_text(encoding="utf-8")
    required = re.findall(r"^\| (\w+) \| ([\d.]+) or newer", page, re.MULTILINE)
    packaged = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    packaged = re.findall(r'requires-(python) = ">=([\d.]+)"|"(torch)>=([\d.]+)"|"(ultralytics)>=([\d.]+)"', packaged)
    assert [v for _, v in required] == [next(filter(None, found[1::2])) for found in packaged]
    assert f"newer than {ULTRALYTICS_TESTED} gives" in page
    assert f"{ULTRALYTICS_MIN} and {ULTRALYTICS_TESTED}," in page


EXPLAINING = [page for page in PAGES if page.parent.name in ("understand", "evidence")]


@pytest.mark.parametrize("page", EXPLAINING, ids=lambda page: page.stem)
def test_pages__code_in_python_prints_what_they_say(page, capsys):
    for language, code in BLOCKS_OF_CODE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(code, {})
            assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if "- [-1, 1, " in page.read_text(encoding="utf-8")])
def test_pages__rows_of_blocks_can_be_built(page, tmp_path):
    model = yaml.safe_load((ULTRALYTICS / "cfg" / "models" / "v8" / "yolov8.yaml").read_text(encoding="utf-8"))
    blocks = [code for language, code in BLOCKS_OF_CODE.findall(page.read_text(encoding="utf-8")) if language == "yaml"]
    rows = [row for code in blocks if code.startswith("- [") for row in yaml.safe_load(code)]
    file = tmp_path / "yolov8n-with-rows.yaml"
    model |= {"backbone": [*model["backbone"], *rows], "head": [[[-1], 1, "Detect", ["nc"]]]}
    file.write_text(yaml.safe_dump(model))
    built = yolo_mha.YOLO(file).model.model[10:-1]
    assert [type(block).__name__ for block in built] == [row[2] for row in rows]


# "Vaswani et al. 2017", "Kim & DeMets 1987", "Holm (1979)"
CITED = re.compile(
    r"\b([A-Z][a-zé]+)(?: et al\.|(?:, [A-Z][a-z]+)*,? (?:and|&) [A-Z][A-Za-z]+)?,? \(?((?:19|20)\d\d)\b"
)


def test_references__hold_all_that_pages_and_docstrings_name():
    listed = (PROJECT / "docs" / "reference" / "references.md").read_text(encoding="utf-8")
    entries = {(entry[0], entry[1]) for entry in re.findall(r"^- ([\w-]+),.*?\((\d{4})\)", listed, re.MULTILINE)}
    files = [*PAGES, *(PROJECT / "yolo_mha").rglob("*.py")]
    named = {pair for file in files for pair in CITED.findall(" ".join(file.read_text(encoding="utf-8").split()))}
    titles = {("Data", "2011"), ("Functions", "2010")}  # the last word of a title, whose author stands before it
    assert named - titles <= entries
    for module in re.findall(r"`(\w+/\w+\.py)`", listed):
        assert any((folder / module).is_file() for folder in (PROJECT, PROJECT / "yolo_mha")), module


def test_site__builds_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    # --quiet would keep warnings from --strict
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in commands for name in COMMANDS)
    pages = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html"))
    fetched = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?://[^\"]*)", pages)
    assert not fetched  # nothing from elsewhere
