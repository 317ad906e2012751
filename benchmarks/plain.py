"""A configuration of gunicorn that sets nothing."""
