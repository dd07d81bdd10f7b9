"""What a network, a recipe and the conventions are: frozen records, no arrays."""
