"""README and the site: short enough, commands that exist, links that lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_mha.engine.own_settings import BLOCK_OPTIONS, BLOCKS, COMMANDS

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
