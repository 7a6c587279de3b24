import io
import warnings

import pytest
from matplotlib.figure import Figure

from yolo_mha.errors import ConfigError
from yolo_mha.text import (
    cell,
    in_line,
    markdown,
    plotted,
    plotted_lines,
    plotted_short,
    printable,
    printable_message,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 猫 🐈\n\tnext", "plain é 猫 🐈\n\tnext"),
        ("\x1b[2J\x07\r", r"\x1b[2J\x07\x0d".replace(r"\x0d", r"\r")),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_printable__spells_out_what_a_terminal_would_obey(text, shown):
    assert printable(text) == shown


def test_printable_message__keeps_colours_and_the_start_of_a_line():
    assert printable_message("\r\x1b[K\x1b[34m\x1b[1mtrain: \x1b[0m\x1b]0;x\x07") == (
        "\r\x1b[K\x1b[34m\x1b[1mtrain: \x1b[0m" + r"\x1b]0;x\x07"
    )


def test_printable_message__names_no_unfinished_files():
    said = "Optimizer stripped from /my runs/last.pt, saved as /my runs/.unfinished-pc-1-ab.pt, 6.9MB"
    assert printable_message(said) == "Optimizer stripped from /my runs/last.pt, 6.9MB"
    said = "\x1b[34mONNX:\x1b[0m saved as '/my runs/.unfinished-pc-1-ab/best.onnx' (3 MB)"
    assert printable_message(said) == "\x1b[34mONNX:\x1b[0m saved as '/my runs/best.onnx' (3 MB)"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_cell__a_spreadsheet_does_not_compute_it(text):
    assert cell(text) == f"'{text}"
    assert cell(f"a{text}") == f"a{text}"


def test_markdown__shows_as_it_is():
    assert markdown("<img src=x>") == r"\<img src=x>"
    assert markdown("![a](http://b) | `c`\n# d") == r"![a]\(http://b) \| \`c\` # d"
    assert markdown("+0.050 [+0.030, +0.070]") == "+0.050 [+0.030, +0.070]"
    assert in_line("a\nb\x1b") == r"a b\x1b"


def test_error__shows_control_characters_of_what_was_given():
    error = ConfigError("No.", given="\x1b[2J", fix="Yes.")
    assert str(error) == "No.\n  given:    \\x1b[2J\n  fix:      Yes."
    assert error.as_dict()["given"] == "\x1b[2J"


def test_plotted_lines__are_four_at_most_and_break_at_commas():
    assert plotted_lines("AP[pool,lane]", 8) == "AP[pool,\nlane]"
    assert plotted_lines("a $ b") == r"a \$ b"
    lines = plotted_lines("word " * 60).split("\n")
    assert len(lines) == 4
    assert lines[-1].endswith("\u2026")


def test_plotted__is_in_legends_whatever_it_begins_with():
    figure = Figure()
    axes = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of matplotlib, which leaves _names out and has no glyph for some characters
        axes.plot([0, 1], label=plotted("_hidden"))
        assert [text.get_text() for text in axes.legend().get_texts()] == ["\u200b_hidden"]
        figure.savefig(io.BytesIO(), format="png")


def test_plotted_short__keeps_beginning_and_end():
    names = [f"traffic-sign-regulatory-maximum-speed-{end}" for end in ("030", "050")]
    assert [plotted_short(name)[-5:] for name in names] == ["d-030", "d-050"]
    assert {len(plotted_short(name)) for name in names} == {30}
    assert plotted_short("a" * 30) == "a" * 30
