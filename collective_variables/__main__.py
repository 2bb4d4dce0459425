"""`python -m collective_variables`."""

import sys

from collective_variables.cli import main

if __name__ == "__main__":
    sys.exit(main.main())
