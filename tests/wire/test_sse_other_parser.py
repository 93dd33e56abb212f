"""What the encoder writes, read back by a parser that is not ours: npm's ``eventsource-parser``, in node."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eric_sse.wire.sse import encode_comment, encode_event, encode_json_event, field_value

NODE_PROJECT = Path(__file__).parent / "node"
PACKAGE = NODE_PROJECT / "node_modules" / "eventsource-parser" / "package.json"
text = st.text(st.characters(exclude_categories=["Cs"]))
one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))


def install():
    """Install the pinned parser beside its lock file, where it is not yet."""
    pinned = json.loads((NODE_PROJECT / "package.json").read_text())["dependencies"]["eventsource-parser"]
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.fail("this test needs node 18 or later and npm: apt-get install nodejs npm, then run it again")
    if not PACKAGE.exists() or json.loads(PACKAGE.read_text())["version"] != pinned:
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=NODE_PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"cd {NODE_PROJECT} && {' '.join(command)}\nfailed:\n{done.stdout}{done.stderr}")


@pytest.fixture(scope="module")
def other_parser():
    """A function that gives chunks of a stream to the other parser and returns what it made of them."""
    install()
    with subprocess.Popen(
        ["node", NODE_PROJECT / "parse.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:

        def parse(*chunks):
            node.stdin.write(json.dumps([base64.b64encode(chunk).decode() for chunk in chunks]) + "\n")
            node.stdin.flush()
            return json.loads(node.stdout.readline())

        yield parse
        node.stdin.close()


@settings(deadline=None)
@given(blocks=st.lists(st.tuples(text, one_line, one_line), max_size=5), data=st.data())
def test_any_event(other_parser, blocks, data):
    """Whatever is encoded, and wherever the stream is cut, the other parser reads the same events."""
    stream = b"".join(encode_event(d, event=e, event_id=i) for d, e, i in blocks)
    cut = data.draw(st.integers(0, len(stream)))
    read = other_parser(stream[:cut], stream[cut:])
    assert read["events"] == [[e or "message", re.sub("\r\n|\r", "\n", d), i] for d, e, i in blocks]
    assert read["errors"] == []


@settings(deadline=None)
@given(payload=st.recursive(st.none() | st.booleans() | st.integers() | text, st.lists))
def test_any_json(other_parser, payload):
    """JSON through the unchecked fast path arrives as the same JSON."""
    data = json.dumps(payload, ensure_ascii=False).encode()
    stream = encode_json_event(data, event=field_value("quake"), event_id=field_value("k3j9-17"))
    [[event_type, read, event_id]] = other_parser(stream)["events"]
    assert (event_type, json.loads(read), event_id) == ("quake", payload, "k3j9-17")


def test_what_is_no_event(other_parser):
    """An opening block and comments dispatch nothing: the one sets the reconnection time, the others are ignored."""
    read = other_parser(encode_event(None, event_id="k-1", retry_ms=3000), encode_comment(), encode_comment("a\nb"))
    assert read == {"events": [], "comments": ["", "a", "b"], "retries": [3000], "errors": []}


def test_an_event_without_id_or_type(other_parser):
    """Absent fields stay absent."""
    assert other_parser(encode_event("d"))["events"] == [["message", "d", None]]
