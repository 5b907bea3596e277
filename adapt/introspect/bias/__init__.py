"""Find layers and neurons that respond differently to groups of speakers or domains."""
