"""The name, owner, version and folder of this service."""

from pathlib import Path

NAME = "<<cookiecutter.project_name>>"
SLUG = "<<cookiecutter.project_slug>>"
OWNER = "<<cookiecutter.author>>"
DESCRIPTION = "<<cookiecutter.description>>"
VERSION = "0.1.0"
IMAGE = "<<cookiecutter.registry>>/<<cookiecutter.project_slug>>"
# The folder with `app`, `migrations` and `gunicorn.conf.py`.
ROOT = Path(__file__).parents[1]
