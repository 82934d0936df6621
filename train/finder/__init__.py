"""Learning to find: fields with boxed cells in, a network that marks the centres of nucleated cells out."""
