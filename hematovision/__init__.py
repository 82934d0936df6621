"""What every stage shares: the cell that the network sees, the model file, the errors, the root command."""

__version__ = "0.1.0"
