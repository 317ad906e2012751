"""Shortcuts through private parts of other libraries; each only saves time and can be left out."""
