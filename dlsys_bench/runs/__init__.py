"""One run: its key, its result, its metrics, the store, and calibration."""
