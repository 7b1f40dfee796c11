"""Frame sources: video files and video databases behind one protocol."""
