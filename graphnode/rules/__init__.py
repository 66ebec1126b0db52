"""What a result means for what is stored: pure functions from documents to rows. No SQS, no S3, no database."""

from __future__ import annotations
