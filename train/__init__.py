"""Keras: data sets to a trained MobileNetV2, and its evaluation."""
