"""What this service is called."""

NAME = "<<cookiecutter.project_name>>"
SLUG = "<<cookiecutter.project_slug>>"
OWNER = "<<cookiecutter.author>>"
DESCRIPTION = "<<cookiecutter.description>>"
VERSION = "0.1.0"
IMAGE = "<<cookiecutter.registry>>/<<cookiecutter.project_slug>>"
