"""What the tests of a service use: fixtures, doubles, ready-made checks."""
