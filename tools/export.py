"""The same as `yolo-mha export`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
