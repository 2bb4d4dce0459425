"""Run the command line with `python -m collective_variables`."""

import sys

from collective_variables.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
