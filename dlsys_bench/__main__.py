"""`python -m dlsys_bench`, the command line."""

from dlsys_bench.cli import main

main()
