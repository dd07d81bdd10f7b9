"""The specification: frozen records of models, recipes and conventions, without arrays."""
