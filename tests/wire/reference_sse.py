"""The event stream format again, the way the standard is written: the whole stream at once, a character at a time.

Slow, and close enough to the text of WHATWG HTML §9.2.6 to be checked against it by eye. The tests and the fuzzer
compare the real parser with it.
"""

from dataclasses import dataclass, field

from eric_sse.wire.sse import Event


@dataclass
class Reference:
    """What a whole stream means."""

    events: list[Event] = field(default_factory=list)
    last_event_id: str = ""
    retry_ms: int | None = None


def interpret(stream: bytes, last_event_id: str = "") -> Reference:
    """Parse and interpret all of ``stream``."""
    result = Reference(last_event_id=last_event_id)
    data = event_type = ""
    id_buffer = last_event_id
    text = stream.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for line in _lines(text):
        if line == "":
            result.last_event_id = id_buffer
            if data != "":
                data = data[:-1] if data[-1] == "\n" else data
                result.events.append(Event(event_type if event_type != "" else "message", data, id_buffer))
            data = event_type = ""
        elif line[0] == ":":
            pass
        else:
            name, value = line, ""
            if ":" in line:
                name, value = line[: line.index(":")], line[line.index(":") + 1 :]
                value = value[1:] if value[:1] == " " else value
            if name == "event":
                event_type = value
            elif name == "data":
                data += value + "\n"
            elif name == "id":
                id_buffer = id_buffer if "\0" in value else value
            elif name == "retry" and value and all(c in "0123456789" for c in value):
                result.retry_ms = min(int(value), 2**53 - 1)
    return result


def _lines(text: str) -> list[str]:
    lines, line, at = [], "", 0
    while at < len(text):
        if text[at] in "\r\n":
            at += text[at : at + 2] == "\r\n"
            lines.append(line)
            line = ""
        else:
            line += text[at]
        at += 1
    return lines  # "Once the end of the file is reached, any pending data must be discarded."
