"""The same as `yolo-mha compare`."""

import sys

from yolo_mha.cli import main

main(["compare", *sys.argv[1:]])
