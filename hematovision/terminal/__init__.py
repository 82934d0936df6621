"""What every command shares where it meets a person: the streams, progress, and what was mistyped."""
