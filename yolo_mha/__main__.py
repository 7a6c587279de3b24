"""Lets ``python -m yolo_mha`` stand for ``yolo-mha``."""

from .cli import main

if __name__ == "__main__":
    main()
