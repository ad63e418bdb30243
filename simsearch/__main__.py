"""`python -m simsearch`: the same as the command `simsearch`."""

from simsearch.cli import main

main()
