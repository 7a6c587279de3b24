"""Make ``python -m yolo_mha`` the same as ``yolo-mha``."""

from .cli import main

if __name__ == "__main__":
    main()
