"""Studies: groups of arms that are trained on one dataset and judged by one metric."""
