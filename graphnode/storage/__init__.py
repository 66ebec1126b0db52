"""PostgreSQL: one module per subject. This room knows rows and transactions, but not queues, S3 or envelopes."""
