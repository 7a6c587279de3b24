"""The same as `yolo-mha train`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
