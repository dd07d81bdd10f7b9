"""What is timed here runs on the best kernels that its libraries have."""

from dlsys_bench.blas import tell

tell()
