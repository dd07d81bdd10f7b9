"""The plots that the studies of the notebooks name."""
