"""A test suite for deep-learning training: is it right, is it accurate, is it fast."""

__version__ = "0.1.0"
