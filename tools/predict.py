"""The same as `yolo-mha predict`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
