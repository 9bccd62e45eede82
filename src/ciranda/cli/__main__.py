"""`python -m ciranda.cli`: the same as `ciranda`, where the script is not on the path."""

from ciranda.cli import main

main()
