"""What an operator asks, computed without a terminal or a page."""
