"""The same as `yolo-mha track`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["track", *sys.argv[1:]])
