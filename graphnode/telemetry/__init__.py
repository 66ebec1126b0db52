"""What is logged and reported."""
