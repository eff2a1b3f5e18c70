"""Reading a protocol buffer from bytes that may be anything."""

import warnings


def parse_message(message_class, content):
    """A message, or None if the bytes are none of that class.

    Args:
        message_class: class of the message.
        content: bytes.

    >>> from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
    >>> parse_message(TensorShapeProto, b'\\x12\\x02\\x08\\x05').dim[0].size, parse_message(TensorShapeProto, b'\\xff')
    (5, None)
    """
    message = message_class()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bytes that are left over, which the caller reports in its own words
            read = message.ParseFromString(bytes(content))
    except Exception:  # protobuf has several classes for it
        return None
    return message if read in (None, len(content)) else None
