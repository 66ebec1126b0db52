"""What a deployment is doing now: queues, tasks, workers."""
