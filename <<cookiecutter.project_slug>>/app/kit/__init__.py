"""Runtime building blocks that know no feature of this service.

The template owns this package and upgrades it: change it here only for what you would send back.
"""
