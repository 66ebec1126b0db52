"""The schema's history: files `NNNN_name.py`, each with `up`, applied once and in order by `graphnode migrate`."""
