"""A user's stored graph to look at: in the terminal, as an SVG picture, as a page. It reads, and changes nothing."""
