"""Pages over run folders: read only, and without Ray."""
