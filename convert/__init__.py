"""Keras model to TensorFlow Lite variants, each checked against the model that it came from."""
