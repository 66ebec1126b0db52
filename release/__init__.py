"""Checks before a release: the image's build without Docker, and the wheel in a clean environment."""
