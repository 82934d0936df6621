"""``python -m hematovision``: the same as the console script."""

from hematovision.cli import main

main()
