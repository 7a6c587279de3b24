"""The same as `yolo-mha predict`."""

import sys

from yolo_mha.cli import main

main(["predict", *sys.argv[1:]])
