"""Migrations: files `NNNN_name.py`, each with `up`. `graphnode migrate` applies each once, in order."""
