"""The five course notebooks: their models, datasets, studies, claims and plots.

This package joins the library through entry points, as an installed package of anybody else would;
nothing outside it imports it.
"""
