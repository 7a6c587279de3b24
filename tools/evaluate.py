"""The same as `yolo-mha val`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["val", *sys.argv[1:]])
