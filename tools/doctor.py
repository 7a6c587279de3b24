"""The same as `yolo-mha doctor`."""

import sys

from yolo_mha.cli import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])
