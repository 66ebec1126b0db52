"""Clients: AWS's and FCM's, what is read from S3, and the memory that it takes."""
