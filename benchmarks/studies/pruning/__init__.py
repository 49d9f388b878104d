"""The pruning study: whole searches at full T and at fewer steps, at equal footing."""
