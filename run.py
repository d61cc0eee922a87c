#!/usr/bin/env python3
"""HippoTune, a BIDS App: `run.py BIDS_DIR OUTPUT_DIR {participant,review,group} [options]`."""

import sys

from bidsapp.cli import main

if __name__ == "__main__":
    sys.exit(main())
