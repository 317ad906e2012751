"""One folder per feature; each is served when `app.enabled` names it."""
