"""Commands of `cb_export`, one module each."""
