"""`python -m edgesem`: the same as the command `edgesem`."""

import sys

from edgesem.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
