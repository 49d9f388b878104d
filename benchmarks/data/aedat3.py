"""Whether an AEDAT 3.1 file, the format of DVS128 Gesture, is whole.

The events are read by the host, which takes a file that ends early for a shorter one.

Header lines up to `#!END-HEADER`, then packets: 28 bytes (type, source, bytes an event,
offset of the time, overflows of the time, events allotted, used and valid), then the
events allotted.
"""

import os
import struct
from pathlib import Path

__all__ = ["HEADER_END", "MAGIC", "PACKET", "check_aedat3"]

MAGIC = b"#!AER-DAT3.1\r\n"
HEADER_END = b"#!END-HEADER\r\n"
PACKET = struct.Struct("<2H6I")
"""What stands before the events of a packet."""


def check_aedat3(path: str | os.PathLike[str]) -> int:
    """Walk through the packets of a file, without reading the events.

    Args:
        path: The file.

    Returns:
        How many events it holds, of any type.

    Raises:
        ValueError: It does not begin as such a file does, or ends inside a packet;
            the message names the file.
    """
    path = Path(path)
    size, events = path.stat().st_size, 0
    with path.open("rb") as file:
        if (first := file.readline(64)) != MAGIC:
            raise ValueError(
                f"Cannot read {path}: expected it to begin with {MAGIC!r}, got "
                f"{first[:16]!r}."
            )
        line = first
        while line != HEADER_END:
            line = file.readline()
            if not line.startswith(b"#"):
                raise ValueError(f"Cannot read {path}: its header has no end.")
        while header := file.read(PACKET.size):
            if len(header) < PACKET.size:
                raise ValueError(f"Cannot read {path}: it is cut inside a header.")
            _, _, width, _, _, allotted, used, _ = PACKET.unpack(header)
            end = file.tell() + width * allotted
            if end > size or used > allotted:
                raise ValueError(
                    f"Cannot read {path}: it is cut or odd, a packet of {used} events "
                    f"ends at byte {end} of {size}."
                )
            file.seek(end)
            events += used
    return events
