"""The built-in engines by name, for help texts: the registry itself imports numpy."""

NAMES = "numpy, numba, torch, torch-tf32, torch-bf16, jax, keras, keras-jax, package.module:Class"
