"""The story of a task: what is stored of its life, and the timeline of it."""
