"""Networks of today as workloads: their models, datasets and studies.

This package joins the library through entry points, as an installed package of anybody else would;
nothing outside it imports it.
"""
