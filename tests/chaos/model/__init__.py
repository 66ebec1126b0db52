"""The message contract in plain Python: the tables after a sequence of messages. It shares no code with graphnode."""

from __future__ import annotations
