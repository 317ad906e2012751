"""Tools for who develops a service: a database, an image, a cluster, locks, load."""
