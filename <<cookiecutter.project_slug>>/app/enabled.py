"""The features this service serves; the only list to edit when one comes or goes."""

FEATURES: tuple[str, ...] = (
    # One line for each folder of app/features.
    # <% if cookiecutter.example == "shop" %>
    "shop",
    # <% endif %>
)
