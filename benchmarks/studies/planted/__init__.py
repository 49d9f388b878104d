"""Whether a profile over time finds evidence whose steps are known."""
