"""`python -m simsearch`: the same as the command `simsearch`."""

import sys

from simsearch.cli import main

sys.exit(main())
