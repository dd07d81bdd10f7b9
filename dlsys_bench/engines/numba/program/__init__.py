"""Whole steps of training in one compiled call.

A network whose layers all have a compiled form becomes a `Program`: a table with a row for each
layer. One kernel interprets it for many steps without returning to Python, on several threads.

- `tables` defines the rows, and which networks and recipes have a program.
- `layers` has the forward and the backward pass of each layer, next to each other.
- `products`, `losses` and `updates` have the matrix products, losses and optimisers.
- `steps` has the passes of a step, which interpret a table.
- `batches`, `work` and `program` prepare the steps, and run them on threads.

The samples come first: values are (N, units). The work is divided by units, never by the number of
threads, so that each result is computed by the same operations whatever their number is.

The layers of images, before the first dense one, have a table of their own, in the files whose
names begin with `image_`. There the samples come last: a vector of `lanes` has the values of
several samples at one pixel. The work is divided by these chunks of samples. `tiles` generates the
inner loops of convolutions, and `functions` has the activations of vectors.
"""
