"""The same as `yolo-mha export`."""

import sys

from yolo_mha.cli import main

main(["export", *sys.argv[1:]])
