"""Training engines: numpy and numba written by hand, torch, JAX and Keras, and plug-ins."""
