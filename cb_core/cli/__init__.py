"""The commands of training: thin, and light to import."""
