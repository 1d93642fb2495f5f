"""QFLARE 1.0.0 (S2): federated learning across devices, and the platform around it."""
