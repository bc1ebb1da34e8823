"""``python -m brats_seg``."""

import sys

from brats_seg.cli import main

if __name__ == "__main__":
    sys.exit(main())
