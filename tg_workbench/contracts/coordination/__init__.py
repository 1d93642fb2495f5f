"""API Coordination (S4): figures about training, for frontends."""
