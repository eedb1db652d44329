"""Where images come from: listing a source, and reading from it again. Each kind of source has a file of its own."""
