"""What is shipped, tried before it is: the image's steps without Docker, and the wheel in a clean environment."""
