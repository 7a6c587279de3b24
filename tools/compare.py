"""The same as `yolo-mha compare`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
