"""The oracle: an engine that defines the expected values, without a backward pass.

Every layer and every loss is written once, forward, as its record defines it, in complex double
precision. A gradient is a complex-step derivative (Squire & Trapp 1998): a step of 1e-30 i in an
entry of a tensor leaves the derivative, times the step, in the imaginary part of the loss. This is
exact to rounding; nothing is differentiated by hand, and no code is shared with an engine under
test. It is slow, but the networks of the checks are small.
"""

from dlsys_bench.conformance.oracle.engine import Oracle

__all__ = ["Oracle"]
