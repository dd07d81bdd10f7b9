"""Whole steps of training in one compiled call.

A network whose layers all have a compiled form becomes a `Program`: a table with a row for each
layer. One kernel interprets it for many steps without returning to Python, on several threads.

- `tables` defines the rows, and which networks and recipes have a program.
- `layers` has the forward and the backward pass of each layer, next to each other.
- `products`, `losses` and `updates` have the matrix products, losses and optimisers.
- `steps` has the kernel that interprets a table.
- `program` translates a network, and runs the kernel on its threads.

Here samples come first: values are (N, units). The work is divided by units, never by the number of
threads, so that each result is computed by the same operations whatever their number is.
"""
