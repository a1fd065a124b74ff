"""What plain PyAV makes of files, one JSON line a file: run as a process of its own, which hostile
files may kill.

    python plain_decode.py MEMORY_MB FILE...
"""

import json
import resource
import sys

import av
import av.error


def look(path: str) -> dict[str, object]:
    """Return whether the file opens and holds video, and what decoding it gives."""
    seen = {"path": path, "opens": False, "has_video": False, "frames": 0, "faults": 0}
    seen |= {"packets": 0, "promised": 0, "promised_s": 0.0, "span_s": 0.0, "broke_off": False}
    seen |= {"pixels": 0, "memory": False}
    try:
        container = av.open(path, metadata_errors="replace")
    except av.error.MemoryError:
        return seen | {"memory": True}
    except (av.error.FFmpegError, ValueError):
        return seen
    seen["opens"] = True
    with container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            return seen
        stream.thread_type = "NONE"
        seen |= {"has_video": True, "promised": stream.frames}
        seen["pixels"] = stream.codec_context.width * stream.codec_context.height
        seen["promised_s"] = (container.duration or 0) / av.time_base
        first_s = last_s = None
        try:
            for packet in container.demux():
                if packet.dts is not None and packet.time_base is not None:
                    start_s = float(packet.dts * packet.time_base)
                    end_s = start_s + float((packet.duration or 0) * packet.time_base)
                    first_s = start_s if first_s is None else min(first_s, start_s)
                    last_s = end_s if last_s is None else max(last_s, end_s)
                    seen["span_s"] = last_s - first_s
                if packet.stream.index != stream.index:
                    continue
                seen["packets"] += packet.size > 0
                try:
                    for frame in packet.decode():
                        seen["frames"] += 1
                        seen["faults"] += bool(frame.is_corrupt)
                except av.error.FFmpegError as fault:
                    seen["faults"] += 1
                    seen["memory"] |= isinstance(fault, MemoryError)
        except av.error.FFmpegError:
            seen["broke_off"] = True
    return seen


if __name__ == "__main__":
    limit = int(sys.argv[1]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name in sys.argv[2:]:
        sys.stdout.write(json.dumps(look(name)) + "\n")
        sys.stdout.flush()
