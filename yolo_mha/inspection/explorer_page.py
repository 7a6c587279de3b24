"""The page of `explore`: what Gradio shows, and which question each control asks an `Explorer`."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..engine.video import Image
from ..errors import YoloMHAError
from .explorer import Change, Explorer

FONTS = ["Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]  # of the visitor's system
LARGEST_FILE = "50mb"
KINDS = [("effect", True), ("attention", False)]
HELP = (
    "Attention: where the model looks from the positions that decide the score of the detection. Effect: attention "
    "times what is read there, behind the gate; an upper bound, to first order, of how far it moves the score's logit."
)
PART = 400  # pixels; with less room than twice that, parts stand below each other
Outputs = tuple[Any, ...]


def build_page(explorers: Sequence[Explorer], sample: Path | None) -> gr.Blocks:
    """Return the page: a picture, and a column of answers for each model.

    Args:
        explorers: The models.
        sample: A picture that a button offers.
    """
    page = gr.Blocks(analytics_enabled=False, title="yolo-mha explore", delete_cache=(3600, 86400))
    with page:
        gr.Markdown("# What does a detection attend to?\nUpload a picture, then choose a detection and a map.")
        picture = gr.State()
        file = gr.File(label="Picture", file_types=["image"], elem_id="upload", height=140)
        file.upload(lambda path: (str(path), None), file, [picture, file], api_visibility="private")
        if sample is not None:
            button = gr.Button("Use a sample picture", elem_id="sample")
            button.click(lambda: str(sample), None, picture, api_visibility="private")
        with gr.Row():
            for number, explorer in enumerate(explorers):
                with gr.Column(min_width=340):
                    _Answers(explorer, picture, f"model{number + 1}")
    return page


class _Answers:
    """The part of the page that is about one model."""

    def __init__(self, explorer: Explorer, picture: gr.State, name: str) -> None:
        self.explorer = explorer
        views = [(str(view), i) for i, view in enumerate(explorer.views)]
        gr.Markdown(f"## {html.escape(explorer.name)}")
        status = gr.Markdown(elem_id=f"{name}-status")
        with gr.Row():
            with gr.Column(min_width=PART):
                gr.Markdown("### What it detects")
                detection = gr.Dropdown([], label="Detection", filterable=False, elem_id=f"{name}-detection")
                found = _image("Detections", f"{name}-found")
            with gr.Column(min_width=PART):
                gr.Markdown(f"### Where it looks\n{HELP}")
                view = gr.Dropdown(views, value=0, label="Block and head", filterable=False, elem_id=f"{name}-view")
                kind = gr.Radio(KINDS, value=True, label="Map", elem_id=f"{name}-kind")
                numbers = gr.Markdown(elem_id=f"{name}-numbers")
                heat = _image("Map", f"{name}-map")
        with gr.Row():
            with gr.Column(min_width=PART):
                gr.Markdown("### Without what it looks at")
                label = "Blank the positions that the map marks most (% of the picture)"
                share = gr.Slider(1, 50, 10, step=1, label=label, buttons=[], elem_id=f"{name}-share")
                scores = gr.Markdown(elem_id=f"{name}-scores")
                blank = _image("Blanked", f"{name}-blank")
            with gr.Column(min_width=PART):
                gr.Markdown("### Without heads")
                heads = gr.CheckboxGroup(explorer.heads, label="Silence heads (row:head)", elem_id=f"{name}-heads")
                changes = gr.HTML(elem_id=f"{name}-changes")

        asked = [picture, detection, view, kind]
        see = _Event(self.see, [picture], [status, found, detection])
        choose = _Event(self.choose, [picture, detection], [found])
        show = _Event(self.show, asked, [heat, numbers])
        hide = _Event(self.hide, [*asked, share], [blank, scores])
        silence = _Event(self.silence, [picture, detection, heads], [changes])
        _chain(picture.change, see, show, hide, silence)
        _chain(detection.input, choose, show, hide)
        _chain(view.input, show, hide)
        _chain(kind.input, show, hide)
        _chain(share.change, hide)
        _chain(heads.input, silence)

    def see(self, path: str | None) -> Outputs:
        """Detect objects in a picture; what is wrong with it is said in the status."""
        if path is None:
            return "", None, gr.Dropdown([], value=None)
        try:
            labels = self.explorer.detections(path)
        except YoloMHAError as e:
            return e.problem, None, gr.Dropdown([], value=None)
        first = 0 if labels else None
        status = "" if labels else "Nothing was detected in this picture. A lower conf= finds more."
        choices = [(label, i) for i, label in enumerate(labels)]
        return status, self.explorer.picture(path, first), gr.Dropdown(choices, value=first)

    def choose(self, path: str, detection: int) -> Image:
        """Mark the detection in the picture."""
        return self.explorer.picture(path, detection)

    def show(self, path: str, detection: int | None, view: int, effect: bool) -> Outputs:
        """Show a map."""
        return (
            (None, "") if detection is None else self.explorer.map(path, detection, self.explorer.views[view], effect)
        )

    def hide(self, path: str, detection: int | None, view: int, effect: bool, share: float) -> Outputs:
        """Blank what the map marks."""
        if detection is None:
            return None, ""
        return self.explorer.blanked(path, detection, self.explorer.views[view], effect, share / 100)

    def silence(self, path: str, detection: int | None, heads: list[str]) -> str:
        """Say what is lost without heads."""
        return "" if detection is None or not heads else _table(self.explorer.without(path, heads))


class _Event:
    """A function, the components it is given, and those that show what it returns."""

    def __init__(self, function: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        self.function, self.inputs, self.outputs = function, inputs, outputs


def _chain(trigger: Any, *events: _Event) -> None:
    """Let events follow each other; with a new change, while one is at work, the last one counts."""
    for event in events:
        latest = {"trigger_mode": "always_last"} if event is events[0] else {}
        done = trigger(event.function, event.inputs, event.outputs, api_visibility="private", **latest)
        trigger = done.then


def _image(text: str, name: str) -> gr.Image:
    return gr.Image(alt_text=text, show_label=False, interactive=False, format="jpeg", buttons=[], elem_id=name)


def _table(changes: list[Change]) -> str:
    """Return detections with and without heads as HTML."""
    lost = sum(change.after is None for change in changes)
    other = sum(change.before is not None and change.after is not None and not change.same_class for change in changes)
    new = sum(change.before is None for change in changes)
    rows = [(change.before or "", change.after or "lost") for change in changes]
    cells = "".join(f"<tr><td>{html.escape(before)}</td><td>{html.escape(after)}</td></tr>" for before, after in rows)
    return (
        f"<p>Of {len(changes) - new} detections {lost} are lost and {other} have another class; {new} are new.</p>"
        "<table><thead><tr><th>with all heads</th><th>without these</th></tr></thead>"
        f"<tbody>{cells}</tbody></table>"
    )
