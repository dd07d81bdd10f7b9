"""The five course notebooks, as a guest of the library: their networks, studies, claims and
plots."""
