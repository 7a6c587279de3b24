"""Putting blocks into a model and taking them out: rows, YAML text, weights."""

from .transfer import Transfer

__all__ = ["Transfer"]  # importing it makes Ultralytics' loading follow the layers where there are blocks
