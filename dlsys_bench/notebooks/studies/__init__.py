"""The studies of the notebooks."""
