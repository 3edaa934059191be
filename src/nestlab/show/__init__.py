"""Plans, proofs, tables and progress as text or JSON. Nothing here asks the world."""
