"""Receive, keep alive, settle: knows SQS and Dramatiq, no graph and no PostgreSQL."""
