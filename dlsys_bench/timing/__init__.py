"""Timing of training: throughput, time to accuracy, and comparison with the machine's own peak."""
