"""`python -m hyperrag`."""

from hyperrag.cli import main

main()
