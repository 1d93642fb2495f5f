"""TG-Tinker 3.0.0 (S0): training clients, step by step."""
