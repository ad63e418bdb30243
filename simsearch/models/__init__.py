"""What turns pixels into unit vectors."""
