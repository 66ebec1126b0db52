"""The operator's page over `graphnode/operations/`: a web server of its own process."""
