"""``python -m pycnn``."""

import sys

from pycnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
