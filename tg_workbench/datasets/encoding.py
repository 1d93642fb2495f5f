"""Encoding: how raw columns become features, and class numbers become names again."""
