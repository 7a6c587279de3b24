"""The same as `yolo-mha train`."""

import sys

from yolo_mha.cli import main

main(["train", *sys.argv[1:]])
