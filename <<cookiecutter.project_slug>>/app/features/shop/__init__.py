"""The example feature: the catalogue, the till and the imports of a board-game shop."""
