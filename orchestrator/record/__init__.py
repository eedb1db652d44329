"""The run folder: where every stage writes down what happened, and where everything else reads it."""
