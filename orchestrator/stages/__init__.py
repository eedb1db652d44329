"""The work itself, on Ray or in this process: two ways to run the same plan."""
