"""The report of all experiments: what was reported beside what was measured."""
