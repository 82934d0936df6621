"""The device: camera to differential, command line."""
