"""The features that this service serves."""

FEATURES: tuple[str, ...] = (
    # One line for each folder of app/features.
    # <% if cookiecutter.example == "shop" %>
    "shop",
    # <% endif %>
)
