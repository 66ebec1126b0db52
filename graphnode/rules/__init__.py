"""Pure decisions: documents and stored rows in, new rows out. No SQS, no S3, no database."""
