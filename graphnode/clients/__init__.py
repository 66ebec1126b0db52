"""The services beside SQS and PostgreSQL: S3, FCM, and the memory that their documents take."""
