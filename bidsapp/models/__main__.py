"""`python -m bidsapp.models` is `hippotune-models`."""

import sys

from bidsapp.models_cli import main

if __name__ == "__main__":
    sys.exit(main())
