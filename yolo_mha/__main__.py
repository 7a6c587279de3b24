"""Lets ``python -m yolo_mha`` stand for ``yolo-mha``."""

from .cli import main

main()
