"""PostgreSQL: one module a subject. It knows rows and transactions, and nothing of queues, S3 or envelopes."""
