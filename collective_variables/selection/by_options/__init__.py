"""Call methods whose options are fields of their settings."""
