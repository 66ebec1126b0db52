"""What was repaired in a document or left out of it, which costs a count and not the document."""

from __future__ import annotations

#: How often, by a plain name: kept on the task, e.g. {"edges to unknown nodes": 3}.
Warnings = dict[str, int]
