"""Sources of frames, one small class each behind one protocol."""
