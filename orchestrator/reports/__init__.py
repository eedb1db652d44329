"""What a run means: events and results folded into values, text, JSON and one HTML file, from the run folder alone."""
