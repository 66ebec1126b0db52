"""Reading, redriving, keeping and explaining dead letters."""
