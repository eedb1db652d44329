"""What will be done, decided before anything starts, each decision with its reason."""
