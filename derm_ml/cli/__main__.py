"""`python -m derm_ml.cli`: the command line where `derm` is not on the path."""

from derm_ml.cli import main

main()
