"""The same as `yolo-mha val`."""

import sys

from yolo_mha.cli import main

main(["val", *sys.argv[1:]])
