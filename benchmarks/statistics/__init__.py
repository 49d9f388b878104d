"""Statistics of compared runs: paired differences, their power, corrections."""
