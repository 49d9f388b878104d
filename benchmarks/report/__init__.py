"""What people look at: figures, and pages that open without a network."""
