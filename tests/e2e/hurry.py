"""How much shorter the waits of hurried workers are (`hurried_actors.py`)."""

from __future__ import annotations

FACTOR = 50

#: The default back-offs, shortened. The setting takes no shorter one than the first.
SETTINGS = {"GRAPHNODE_BACKOFF_MIN": str(5 / FACTOR), "GRAPHNODE_BACKOFF_MAX": str(900 / FACTOR)}
