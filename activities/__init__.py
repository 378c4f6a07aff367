"""How the transitions happen: activities, and below them backends, object store and data plane.

It decides *no* order between steps; that is `workflows`.
"""
