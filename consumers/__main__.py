"""`python -m consumers`: the same as `postorder`."""

from consumers.cli import main

main()
