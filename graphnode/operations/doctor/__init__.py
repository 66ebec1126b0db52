"""What a deployment needs, looked at from outside: what is wrong, and what mends it."""
