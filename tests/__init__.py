"""The tests: `CONTRIBUTING.md` says which folder asks what."""
