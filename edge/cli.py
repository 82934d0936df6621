"""The commands of the device."""
