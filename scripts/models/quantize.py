"""Weights in fewer bits. Every step is exact float32 arithmetic on single elements, so the result is the same everywhere."""

import numpy as np


def int8_columns(weight):
    """[K, N] float -> signed 8-bit weights, and one zero point and one scale a column.

    A column spans from its smallest (or zero) to its largest (or zero) element. Signed weights are for activations of 7 bits
    only: the kernels of CPUs without VNNI add two products in 16 bits, and saturate with 8.
    """
    low = np.minimum(weight.min(0), 0).astype(np.float32)
    high = np.maximum(weight.max(0), 0).astype(np.float32)
    scale = ((high - low) / np.float32(255)).astype(np.float32)
    scale[scale == 0] = 1
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(weight / scale) + zero, 0, 255)
    return (steps - 128).astype(np.int8), (zero - 128).astype(np.int8), scale


def rest(weight, columns, zero, scale):
    """What `int8_columns` leaves over of a weight."""
    return weight - (columns.astype(np.float32) - zero.astype(np.float32)) * scale


def int8_rows(table):
    """[N, K] float -> signed 8-bit rows and one scale a row, [N, 1]: for tables that are looked up, not multiplied."""
    scale = (np.abs(table).max(1, keepdims=True) / 127).astype(np.float32)
    return np.rint(table / scale).astype(np.int8), scale


def int4_blocks(weight, block=32):
    """[K, N] float -> (packed weights, scales, packed zero points) as MatMulNBits reads them.

    Weights are uint8 [N, K/block, block/2], the first of two elements in the low half; scales float32 [N, K/block]; zero points
    uint8 [N, ceil(K/block / 2)]. Each block spans from its smallest (or zero) to its largest (or zero) element.
    """
    inputs, outputs = weight.shape
    assert inputs % block == 0, "MatMulNBits pads a last short block; no layer here has one"
    blocks = np.ascontiguousarray(weight.T).reshape(outputs, inputs // block, block)
    low = np.minimum(blocks.min(2), 0).astype(np.float32)
    high = np.maximum(blocks.max(2), 0).astype(np.float32)
    scale = ((high - low) / np.float32(15)).astype(np.float32)
    scale[scale == 0] = 1
    zero = np.clip(np.rint(-low / scale), 0, 15)
    values = np.clip(np.rint(blocks / scale[:, :, None]) + zero[:, :, None], 0, 15).astype(np.uint8)
    zero = zero.astype(np.uint8)
    if zero.shape[1] % 2:
        zero = np.concatenate([zero, np.zeros((outputs, 1), np.uint8)], 1)
    return (
        values[:, :, 0::2] | (values[:, :, 1::2] << 4),
        scale,
        zero[:, 0::2] | (zero[:, 1::2] << 4),
    )


def int8_blocks(table, block=32):
    """[N, K] float -> (weights, scales) as MatMulNBits reads them with 8 bits and no zero points, which are 128 then.

    Weights are uint8 [N, K/block, block], scales float32 [N, K/block]. What was stored so in a GGUF (Q8_0) comes out as it was.
    """
    outputs, inputs = table.shape
    assert inputs % block == 0, "MatMulNBits pads a last short block; no layer here has one"
    blocks = np.ascontiguousarray(table).reshape(outputs, inputs // block, block)
    scale = (np.abs(blocks).max(2) / np.float32(127)).astype(np.float32)
    scale[scale == 0] = 1
    return (np.rint(blocks / scale[:, :, None]) + 128).astype(np.uint8), scale
