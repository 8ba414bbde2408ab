"""Reads the file that librncount.so (rnbench/recorder/count.c) fills."""
import os
import struct

ROW = struct.Struct("<8Q192s")  # struct row
BYTES = ROW.size * 128


def read(data):
    """By executable: calls that gave a block, frees, starts, and starts in which another allocator was next."""
    counts = {}
    for fields in ROW.iter_unpack(data):
        _, images, *calls, other, name = fields
        if images:
            executable = os.path.basename(name.split(b"\0")[0].decode(errors="replace"))
            counts[executable] = (sum(calls[:4]), calls[4], images, other)
    return counts
