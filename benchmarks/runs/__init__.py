"""What every run has: a typed configuration, a folder, provenance and progress."""
