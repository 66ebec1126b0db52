"""What a deployment needs: checks that find what is wrong, and what mends it."""
