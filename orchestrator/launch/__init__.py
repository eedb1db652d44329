"""Starting runs, continuing them, and what they need on this machine."""
