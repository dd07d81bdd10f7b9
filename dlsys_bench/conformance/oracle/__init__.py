"""What is right, by definition: an engine without a backward pass.

Every layer and loss is written once, forward, as its record defines it, in complex double
precision. A gradient is the imaginary part that a step of 1e-30 into the imaginary leaves in the
loss (Squire & Trapp 1998): exact to rounding, with nothing differentiated by hand and nothing
shared with any engine that is put through the checks. It is slow, and that does not matter: the
networks of the checks are small.
"""

from dlsys_bench.conformance.oracle.engine import Oracle

__all__ = ["Oracle"]
