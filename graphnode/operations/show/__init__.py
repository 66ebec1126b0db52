"""A user's stored graph in the terminal, as an SVG picture, and as an HTML page. Reads only."""
