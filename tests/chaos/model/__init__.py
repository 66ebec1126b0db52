"""The message contract in plain Python: what the tables hold after what arrived. It shares no code with graphnode."""

from __future__ import annotations
