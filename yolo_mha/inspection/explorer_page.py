"""The page of `explore`: what Gradio shows, and which question each control asks an `Explorer`."""

from __future__ import annotations

import base64
import html
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Any, TypeGuard

import cv2
import gradio as gr
import uvicorn
from fastapi import FastAPI

from ..engine.video import Image
from ..errors import RunError, YoloMHAError
from .explorer import Change, Explorer

FONTS = ["Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]  # of the visitor's system
LARGEST_FILE = "50mb"
OLD_FILES = 3600, 86400  # seconds: every hour those that are a day old go
# The browser asks no other host for anything, whatever Gradio's files name.
HEADERS = [("Content-Security-Policy", "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:")]
KINDS = [("effect", True), ("attention", False)]
HELP = (
    "Attention: where the model looks from the positions that decide the score of the detection. Effect: attention "
    "times what is read there, behind the gate; an upper bound, to first order, of how far it moves the score's logit."
)
PART = 400  # pixels; in a window narrower than two parts, they are stacked
Answer = tuple[Any, ...]  # what components show
NOTHING, SAME = ("", ""), (gr.skip(), gr.skip())  # of a picture and a sentence


def build_page(explorers: Sequence[Explorer], sample: Path | None) -> gr.Blocks:
    """Return the page: a picture, and a column of answers for each model.

    Args:
        explorers: The models.
        sample: A picture that a button offers.
    """
    page = gr.Blocks(analytics_enabled=False, title="yolo-mha explore", delete_cache=OLD_FILES)
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


def serve(page: gr.Blocks, listening: socket) -> None:
    """Serve a page until Ctrl-C or SIGTERM.

    Args:
        page: The page.
        listening: Where it is served.

    Raises:
        RunError: It cannot be served.
    """
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        "/",
        theme=gr.themes.Base(font=FONTS, font_mono=["monospace"]),
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=LARGEST_FILE,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    # As Gradio's own launch() sets them: otherwise whoever sends the path of a file of this machine is given the file.
    page.has_launched = page.is_running = True
    server = _Server(uvicorn.Config(app, log_level="warning", headers=HEADERS, timeout_graceful_shutdown=1))
    server.run(sockets=[listening])
    if not server.started:
        raise RunError("The page could not be served.", fix="see the messages above")


class _Server(uvicorn.Server):
    """A server that stops without messages about pages that are still open."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


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
                found = gr.HTML(elem_id=f"{name}-found")
            with gr.Column(min_width=PART):
                gr.Markdown(f"### Where it looks\n{HELP}")
                view = gr.Dropdown(views, value=0, label="Block and head", filterable=False, elem_id=f"{name}-view")
                kind = gr.Radio(KINDS, value=True, label="Map", elem_id=f"{name}-kind")
                numbers = gr.Markdown(elem_id=f"{name}-numbers")
                heat = gr.HTML(elem_id=f"{name}-map")
        with gr.Row():
            with gr.Column(min_width=PART):
                gr.Markdown("### Without what it looks at")
                label = "Blank the positions that the map marks most (% of the picture)"
                share = gr.Slider(1, 50, 10, step=1, label=label, buttons=[], elem_id=f"{name}-share")
                scores = gr.Markdown(elem_id=f"{name}-scores")
                blank = gr.HTML(elem_id=f"{name}-blank")
            with gr.Column(min_width=PART):
                gr.Markdown("### Without heads")
                heads = gr.CheckboxGroup(explorer.heads, label="Silence heads (row:head)", elem_id=f"{name}-heads")
                changes = gr.HTML(elem_id=f"{name}-changes")

        shown, hidden = [heat, numbers], [blank, scores]
        asked = [picture, detection, view, kind]
        latest: dict[str, Any] = {"trigger_mode": "always_last", "api_visibility": "private"}
        opened = [status, found, detection, *shown, *hidden, changes]
        picture.change(self.open, [picture, view, kind, share, heads], opened, **latest)
        detection.input(self.choose, [*asked, share], [found, *shown, *hidden], **latest)
        for control in (view, kind):
            control.input(self.look, [*asked, share], [*shown, *hidden], **latest)
        share.change(self.hide, [*asked, share], hidden, **latest)
        heads.input(self.silence, [picture, detection, heads], changes, **latest)

    # Each answers for all controls at once, because the picture may be another when the next event comes.

    def open(self, path: str, view: int, effect: bool, share: float, heads: list[str]) -> Iterator[Answer]:
        """Detect objects in a picture, and answer for the first; what is wrong with it is said in the status."""
        try:
            labels = self.explorer.detections(path)
        except YoloMHAError as e:
            yield e.problem, "", gr.Dropdown([], value=None), *NOTHING, *NOTHING, ""
            return
        choices = gr.Dropdown([(label, i) for i, label in enumerate(labels)], value=0 if labels else None)
        if not labels:
            status = "Nothing was detected in this picture. A lower conf= finds more."
            yield status, self._found(path, None), choices, *NOTHING, *NOTHING, ""
            return
        known = "", self._found(path, 0), choices
        for answer in self.look(path, 0, view, effect, share):
            yield *known, *answer, gr.skip()
            known = gr.skip(), gr.skip(), gr.skip()
        yield *known, *SAME, *SAME, self.silence(path, 0, heads)

    def choose(self, path: str, detection: int | None, view: int, effect: bool, share: float) -> Iterator[Answer]:
        """Answer for another detection."""
        found = self._found(path, detection) if self._has(detection, path) else gr.skip()
        for answer in self.look(path, detection, view, effect, share):
            yield found, *answer
            found = gr.skip()

    def look(self, path: str, detection: int | None, view: int, effect: bool, share: float) -> Iterator[Answer]:
        """Show a map, then what becomes of the score without what it marks."""
        if self._has(detection, path):
            heat, numbers = self.explorer.map(path, detection, self.explorer.views[view], effect)
            yield _image(heat, "Map"), numbers, *SAME
        yield *SAME, *self.hide(path, detection, view, effect, share)

    def hide(self, path: str, detection: int | None, view: int, effect: bool, share: float) -> Answer:
        """Blank what the map marks."""
        if not self._has(detection, path):
            return NOTHING
        blank, scores = self.explorer.blanked(path, detection, self.explorer.views[view], effect, share / 100)
        return _image(blank, "Blanked"), scores

    def silence(self, path: str, detection: int | None, heads: list[str]) -> str:
        """Say what is lost without heads."""
        return _table(self.explorer.without(path, heads)) if heads and self._has(detection, path) else ""

    def _found(self, path: str, detection: int | None) -> str:
        return _image(self.explorer.picture(path, detection), "Detections")

    def _has(self, detection: int | None, path: str) -> TypeGuard[int]:
        """Say whether a picture has a detection; while it loads, one of the last picture may be asked for."""
        return detection is not None and detection < len(self.explorer.detections(path))


def _image(picture: Image, text: str) -> str:
    """Return an RGB picture as HTML that holds it: Gradio's own files of pictures are rewritten while they are sent."""
    content = base64.b64encode(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()).decode()
    return f'<img alt="{text}" src="data:image/jpeg;base64,{content}">'


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
