"""The job file: what the user asked for."""
