"""The story of a task: read from the database, told line by line."""
