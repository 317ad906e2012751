"""What the generated service costs, measured beside what it is built on."""
