"""Text that was valid until a few faults were put into it."""

import re

from hypothesis import strategies as st

PIECES = re.compile(r'<[^<>]*>|"[^"\n]*"|\s+|[\w.+-]+|.', re.DOTALL)
CLOSING = {"[": "]", "{": "}"}
# read as a value by both JSON and YAML
NUMBERS = ["NaN", "Infinity", "1e308", "-1e308", "1e999", "5e-324", "-0", "-0.0", "0", "1", "2", "-1", "0.5", "1.0"]
NUMBERS += ["9" * 19, "9" * 400, "9" * 5000, "-" + "9" * 30]
VALUES = [*NUMBERS, "null", "true", "[]", "{}", "[[]]", "[null]", '{"a": 1}', "[1]", '""', '" "', '"0"', '"1"', '"nan"']
VALUES += [
    f'"{text}"' for text in ("a", "a" * 300, "a/" * 3000, "images", "d.yaml", "(", "%s", "\u00e9", "\u0663", "\u202e")
]
VALUES += ['"\\ud800"', '"\\u0000"', '"\\n"', '"\\u001b[31m"', "[" * 99 + "]" * 99, "[" * 20_000 + "]" * 20_000]
WORDS = ["", ".nan", "-.inf", "\u0663", "\uff11", "0x1F", "1_000", "1:30:00", "08", "None", "~", "False", "a=b", "a b"]
CONTROLS = ["\0", "\t", "\r", "\x1b[31m", "\u202e", "\u2028", "\ufeff", "\\", "'", '"']
YAML = ["!!python/object/apply:os.system [touch ran]", "!!binary aGk=", "!!set {a}", "!!float a", "!!timestamp a"]
YAML += ["!a b"]
YAML += ["2024-01-01", "2024-13-45", "&a [*a]", "*a", "&a", "<<", "<<: *a", "? a", "---", "...", "#", "|", ">", "@"]
YAML += ["`"]
XML = ["<a>", "</a>", "<a/>", "&x;", "&lt;", "]]>", "<!--", '<!DOCTYPE a [<!ENTITY x SYSTEM "d.yaml">]>', "<object/>"]
MARKS = ["[", "]", "{", "}", "(", ")", ":", ": ", ",", ", ", "- ", "[" * 200, "[" * 20_000, "{a: " * 60]
MARKS += ['{"a":' * 20_000]
ENCODINGS = ["utf-8"] * 12 + ["utf-8-sig", "utf-16", "latin-1"]


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """Return a text with one to three faults, in some encoding; now and then another text altogether."""
    if draw(st.integers(0, 29)) == 0:
        return draw(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        text = draw(_changed(text))
    if draw(st.integers(0, 19)) == 0:
        text = text.replace("\n", "\r\n")
    content = text.encode(draw(st.sampled_from(ENCODINGS)), "replace")
    if draw(st.integers(0, 29)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at:]
    return content


@st.composite
def _changed(draw: st.DrawFn, text: str) -> str:
    """Replace, take out, double or exchange something: a word, a line, or a whole list or mapping."""
    values, marks = _spans(text)
    spans = draw(st.sampled_from([values] * 5 + [marks])) or [(0, 0)]
    start, end = draw(st.sampled_from(spans))
    how = draw(st.sampled_from(["value"] * 5 + ["word"] * 2 + ["gone", "doubled", "other", "exchanged", "line"]))
    if how == "value":
        return text[:start] + draw(st.sampled_from(VALUES)) + text[end:]
    if how == "word":
        return text[:start] + draw(st.sampled_from([*WORDS, *CONTROLS, *YAML, *XML, *MARKS])) + text[end:]
    if how == "gone":
        return text[:start] + text[end:]
    if how == "line":
        lines = text.splitlines(keepends=True) or [""]
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = draw(st.sampled_from([[], lines[at : at + 1] * 2, lines[:at][-1:], ["\n"]]))
        return "".join(lines)
    first, last = draw(st.sampled_from(spans))
    other = text[first:last]
    if how == "exchanged" and (end <= first or last <= start):
        (a, b), (c, d) = sorted([(start, end), (first, last)])
        return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]
    return text[:end] + other + text[end:] if how == "doubled" else text[:start] + other + text[end:]


def _spans(text: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return where the words of a text are, and its lists and mappings from bracket to bracket; and other marks."""
    values, marks, opened = [], [], []
    for piece in PIECES.finditer(text):
        if re.match(r'[\w<"+-]', piece[0]):
            values.append(piece.span())
        elif not piece[0].isspace():
            marks.append(piece.span())
        if piece[0] in CLOSING:
            opened.append((piece.start(), CLOSING[piece[0]]))
        elif opened and piece[0] == opened[-1][1]:
            values.append((opened.pop()[0], piece.end()))
    return values, marks
