"""What lies on disk: the listing, the shards, the manifest, and the order in which rows are read."""
