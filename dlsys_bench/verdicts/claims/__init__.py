"""Published claims about the arms of studies, and the rulings that stored runs allow on them.

A study names its `ClaimSet` (`Study.claims`), so that the claims of every installed package are
ruled on in the same way.
"""
