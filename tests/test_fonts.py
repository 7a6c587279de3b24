"""Names in other scripts, on charts and pictures."""

import io
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from ultralytics.utils.plotting import Annotator

from yolo_mha import fonts
from yolo_mha.guard import guarded

PLEASE = "No font here has all letters of the names on a chart. Install one, for example Noto Sans CJK."
LETTER = "\u210a"  # in STIXGeneral, which comes with matplotlib, and not in DejaVu Sans


@pytest.fixture
def stix(monkeypatch):
    monkeypatch.setattr(fonts, "FAMILIES", ("Not There", "STIXGeneral"))


def drawn():
    figure = Figure()
    figure.text(0.5, 0.5, LETTER)
    figure.savefig(io.BytesIO())


def test_legible__takes_letters_from_another_font_and_restores(stix, monkeypatch, caplog):
    before = matplotlib.rcParams["font.family"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fonts.legible()(drawn)()
    assert matplotlib.rcParams["font.family"] == before
    with pytest.warns(UserWarning, match=fonts.MISSING):
        drawn()
    monkeypatch.setattr(fonts, "FAMILIES", ())
    fonts.legible()(drawn)()
    assert [message.endswith(PLEASE) for message in caplog.messages] == [True]
    with pytest.warns(RuntimeWarning, match="of something else"), fonts.legible():
        warnings.warn("of something else", RuntimeWarning, stacklevel=1)
    assert [message.endswith(PLEASE) for message in caplog.messages] == [True]


def test_file__is_of_an_installed_family_where_any_script_is_wanted(stix, monkeypatch):
    assert "STIXGeneral" in fonts.file(any_script=True)
    assert "DejaVuSans" in fonts.file(any_script=False)
    monkeypatch.setattr(fonts, "FAMILIES", ())
    assert "DejaVuSans" in fonts.file(any_script=True)


def test_pictures__write_names_that_are_not_ascii_with_it(stix):
    with guarded():
        for example, name in (("\u732b", "STIXGeneral"), ("cat", "DejaVuSans")):
            font = Annotator(np.zeros((20, 20, 3), np.uint8), pil=True, example=example).font
            assert name in font.path
