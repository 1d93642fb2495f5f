"""AITIP (S1): datasets, training jobs and inference services, for people with an account."""
