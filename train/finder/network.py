"""The finder's network: a whole field in, a heat map of the centres of nucleated cells out."""

import keras
from keras import layers, ops

#: How much more a place that is far off weighs than one that is nearly right, and a centre than background.
FOCUS = 1.5
CENTER_WEIGHT = 6.0
#: About the share of a field that centres take up: with it a batch without a cell does not count more.
CENTER_SHARE = 0.02
#: Of the running statistics of batches: at Keras's 0.99 a short run ends before they are those of the data.
MOMENTUM = 0.9
#: What the network says of every place before it has learnt: that a centre is unlikely, as a logit.
_PRIOR_LOGIT = -4.0


def build_finder_network() -> keras.Model:
    """Build the network: 55,000 weights, fully convolutional.

    Input: (batch, height, width, 3), RGB from 0 to 255 at `hematovision.heat_map.FINDER_UM_PER_PIXEL`, sides
    that are multiples of 16; scaling to [-1, 1] is inside. Output: logits (batch, height / 4, width / 4, 1)
    of a centre being there. Depthwise-separable convolutions down to a sixteenth of the field's size see
    60 µm around; two skip connections bring the place back to a quarter.
    """
    field = keras.Input((None, None, 3), name="field")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="to_unit_range")(field)
    x = _activate(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x))
    quarter = _separable(_separable(x, 32, stride=2), 32)
    eighth = _separable(_separable(quarter, 64, stride=2), 64)
    sixteenth = _separable(_separable(_separable(eighth, 96, stride=2), 96), 96)
    eighth = _separable(_joined(eighth, sixteenth, 64), 64)
    quarter = _separable(_joined(quarter, eighth, 32), 32)
    logits = layers.Conv2D(1, 1, bias_initializer=keras.initializers.Constant(_PRIOR_LOGIT), name="logits")(
        quarter
    )
    return keras.Model(field, logits, name="hematovision_finder")


def heat_loss(target: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return the loss of a batch: cross-entropy, weighed by how far off each place is.

    Args:
        target: (batch, h, w, 2) float32: the heat wanted, 0 to 1, and how much each place counts, 0 where
            nobody knows what is there.
        logits: (batch, h, w, 1) float32.

    The quality focal loss of Li et al., Generalized focal loss, NeurIPS 2020, with centres weighed more.
    """
    heat, weight = target[..., :1], target[..., 1:]
    off = ops.abs(heat - ops.sigmoid(logits)) ** FOCUS
    entropy = ops.maximum(logits, 0) - logits * heat + ops.log1p(ops.exp(-ops.abs(logits)))
    loss = entropy * off * (1 + CENTER_WEIGHT * heat)
    return ops.sum(loss * weight) / (ops.sum(weight) * CENTER_SHARE + 1)


def _separable(x: keras.KerasTensor, filters: int, stride: int = 1) -> keras.KerasTensor:
    x = _activate(layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x))
    return _activate(layers.Conv2D(filters, 1, use_bias=False)(x))


def _activate(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=MOMENTUM)(x))


def _joined(fine: keras.KerasTensor, coarse: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """Add a coarser map, enlarged twofold, to a finer one."""
    enlarged = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(filters, 1)(coarse))
    return layers.Add()([fine, enlarged])
