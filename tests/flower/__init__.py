"""Our strategies beside Flower's, which has an environment of its own: its pins do not agree with ours."""
