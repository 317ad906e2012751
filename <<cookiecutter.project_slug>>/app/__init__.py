"""The service: `main` puts it together, `features` is what it does, `kit` is what it stands on."""
