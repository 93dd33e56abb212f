"""The commands that talk to a server: a running one with ``--url``, or straight on a store with ``--store``."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest

from eric_sse.cli.output import printable
from eric_sse.clients import EventSource
from eric_sse.engines import open_engine
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message
from support.commands import COMMAND, environment, eric, eric_here, started
from support.server import running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for all the tests, which use channels of their own."""
    with running_server(f"sqlite:///{tmp_path_factory.mktemp('server')}/events.db") as server:
        yield server


@pytest.fixture
def store(tmp_path):
    """The options of a store that is not there yet."""
    return ("--store", f"sqlite:///{tmp_path}/events.db")


@pytest.fixture
def url(server):
    """The options of the running server."""
    return ("--url", server.url)


@pytest.fixture
def channel(server, request):
    """A new channel on the running server, by its id."""
    httpx2.post(f"{server.url}/channels", json={"id": request.node.name}).raise_for_status()
    return request.node.name


def publish(server, channel, *payloads):
    """Publish without the command line."""
    body = [{"payload": payload} for payload in payloads]
    httpx2.post(f"{server.url}/channels/{channel}/messages", json=body).raise_for_status()


def seed(store_url, channel, *listeners):
    """A channel with listeners in a store, made without the command line."""
    with open_engine(store_url) as engine:
        made = engine.channels.create({"channel_id": channel})
        engine.channels.persist(made)
        for listener in listeners:
            made.register_listener(MessageQueueListener(listener))
        engine.channels.persist(made)
        made.broadcast(Message("message", 1))


def kept(server, channel):
    """The payloads that a channel keeps."""
    stream_url = f"{server.url}/channels/{channel}/events?from=earliest"
    last = httpx2.get(f"{server.url}/channels/{channel}").json()["last_id"]
    payloads = []
    with EventSource(stream_url) as events:
        for event in events:
            payloads.append(json.loads(event.data))
            if event.id == last:
                return payloads
    raise AssertionError(f"the stream ended before {last}")


# channel and listener


@pytest.mark.parametrize("where", ["url", "store"])
def test_a_channel_s_life_is_the_same_on_a_server_and_on_a_store(request, where):
    """Created, shown and deleted; ids may hold what a path could not."""
    target, name = request.getfixturevalue(where), f"{where}/a b%2F?#é"
    assert eric("channel", "create", name, *target) == (0, f"{name}\n", "")
    shown = dict(row.split("\t") for row in eric("channel", "show", name, *target).out.splitlines())
    assert (shown["channel"], shown["keeps messages"]) == (name, "100000")
    assert eric("channel", "delete", name, *target) == (0, "", "")
    status, _, err = eric("channel", "show", name, *target)
    assert (status, err) == (1, f"eric-sse: there is no channel {name!r}; create or persist it first\n")


def test_a_channel_without_an_id_gets_one_and_keeps_what_it_is_told_to(url):
    """--json prints the server's answer; 0 is no bound."""
    created = json.loads(eric("channel", "create", "--max-messages", "5", "--max-age", "0", "--json", *url).out)
    assert created["retention"] == {"max_messages": 5, "max_age_s": None}
    shown = json.loads(eric("channel", "show", created["id"], "--json", *url).out)
    assert shown["epoch"] == created["epoch"]


def test_all_pages_of_a_list_are_printed(server, url):
    """More listeners than fit into one of the server's pages are listed whole, as one JSON array."""
    names = [f"{number:04}" for number in range(1001)]
    seed(server.line.split()[2], "many", *names)
    listed = json.loads(eric("listener", "list", "many", "--json", *url).out)
    assert [listener["id"] for listener in listed] == names


def test_a_listener_is_added_listed_and_removed(server, channel, url):
    """Its row says how it acknowledges, where it is and how much waits for it."""
    assert eric("listener", "add", channel, "bob", "--ack", "explicit", *url).out == "bob\n"
    publish(server, channel, 1)
    name, ack, _cursor, lag = eric("listener", "list", channel, *url).out.strip().split("\t")
    assert (name, ack, lag) == ("bob", "explicit", "1")
    assert eric("listener", "remove", channel, "bob", *url).status == 0
    assert httpx2.get(f"{server.url}/channels/{channel}/listeners").json()["listeners"] == []


# publish


def test_a_published_payload_comes_out_as_it_went_in(channel, url):
    """Large numbers keep their digits, text is text, and a type alone is a message."""
    payload = '{"n":12345678901234567890123,"s":"\\u00e9"}'
    ids = [eric("publish", channel, *rest, *url).out.strip() for rest in ([payload], ["hi", "--text"])]
    ids.append(eric("publish", channel, "--type", "ping", *url).out.strip())
    rows = [row.split("\t") for row in listened(channel, url, 3)]
    assert [row[0] for row in rows] == ids
    assert [row[1] for row in rows] == ["message", "message", "ping"]
    assert [json.loads(row[2]) for row in rows] == [json.loads(payload), "hi", None]


def listened(channel, target, count):
    """The first lines that ``listen --from earliest`` prints."""
    return eric("listen", channel, "--from", "earliest", "--count", str(count), *target).out.splitlines()


def test_each_line_of_standard_input_is_a_message(server, channel, url):
    """CR LF, empty lines and a missing last end are no trouble; a count and the last id are printed."""
    lines = "".join(f"{number}\r\n" for number in range(2500)) + "\n\n" + '"last"'
    status, out, _ = eric("publish", channel, "-", *url, stdin=lines)
    count, last_id = out.strip().split("\t")
    assert (status, count) == (0, "2501")
    assert last_id == httpx2.get(f"{server.url}/channels/{channel}").json()["last_id"]
    assert kept(server, channel) == [*range(2500), "last"]


def test_lines_of_text_are_strings(server, channel, url):
    """With --text nothing is parsed, and an empty line is an empty string."""
    eric("publish", channel, "-", "--text", *url, stdin='{"a"\n\nb')
    assert kept(server, channel) == ['{"a"', "", "b"]


@pytest.mark.parametrize("bad", [b"NaN", b'"\xff"', b"[" * 100_000])
def test_a_line_that_is_not_json_is_refused_by_its_number(server, channel, url, bad):
    """Those before it are published, it and those after it are not, and the error says so."""
    status, out, err = eric("publish", channel, "-", *url, stdin=b"1\n\n2\n" + bad + b"\n3\n")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("eric-sse: line 4 cannot be published: ")
    assert err.endswith("; before that, 2 were published\n")
    assert kept(server, channel) == [1, 2]


def test_what_the_server_refuses_is_told_with_its_lines(url):
    """The server's own words, and which lines they are about."""
    status, _, err = eric("publish", "nowhere", "-", *url, stdin="1\n2\n")
    assert status == 1
    assert err == (
        "eric-sse: lines 1 to 2: there is no channel 'nowhere'; create or persist it first; nothing was published\n"
    )


def test_publishing_a_file_again_stores_nothing_where_payloads_hold_ids(server, channel, url):
    """--id-field makes a repeated publish harmless, and answers the same id."""
    lines = '{"id": "a"}\n{"id": 2}\n'
    first = eric("publish", channel, "-", "--id-field", "id", *url, stdin=lines)
    assert eric("publish", channel, "-", "--id-field", "id", *url, stdin=lines) == first
    assert kept(server, channel) == [{"id": "a"}, {"id": 2}]


@pytest.mark.parametrize("payload", ['{"other": 1}', '{"id": true}'])
def test_a_payload_without_the_field_that_is_to_be_its_id_is_refused(capsys, payload):
    """It is wrong usage, found before anything is sent."""
    status, _, err = eric_here(capsys, "publish", "any", payload, "--id-field", "id")
    assert status == 2
    assert err.startswith("eric-sse: PAYLOAD cannot be published: it has no field 'id'")


def test_a_message_for_one_listener_reaches_that_one_alone(server, channel, url):
    """--to dispatches."""
    httpx2.post(f"{server.url}/channels/{channel}/listeners", json={"id": "bob"})
    assert eric("publish", channel, '"for bob"', "--to", "bob", *url).status == 0
    publish(server, channel, "for all")
    bobs = eric("listen", channel, "--listener", "bob", "--count", "2", *url).out.splitlines()
    assert [row.split("\t")[2] for row in bobs] == ['"for bob"', '"for all"']
    assert kept(server, channel) == ["for all"]


def test_lines_are_published_as_they_come_and_events_printed_as_they_come(channel, url):
    """Two open pipes: what goes into ``publish`` comes out of ``listen`` before either ends."""
    with started("listen", channel, *url, "--from", "earliest") as sink, started("publish", channel, "-", *url) as tap:
        for payload in ("1", "2"):
            tap.stdin.write(f"{payload}\n")
            tap.stdin.flush()
            assert sink.stdout.readline().endswith(f"\tmessage\t{payload}\n")
        sink.terminate()


def test_a_publisher_waits_for_a_server_that_restarts(tmp_path):
    """Batches that meet no server are sent again, and nothing is lost or stored twice."""
    store = f"sqlite:///{tmp_path}/events.db"
    with running_server(store) as first:
        httpx2.post(f"{first.url}/channels", json={"id": "news"})
        publisher = started("publish", "news", "-", "--url", first.url)
        publisher.stdin.write("1\n")
        publisher.stdin.flush()
        with EventSource(f"{first.url}/channels/news/events?from=earliest") as events:
            assert next(events).data == "1"  # the publisher has reached the server
        first.kill()
    with publisher:
        publisher.stdin.write("2\n")
        publisher.stdin.flush()
        assert "trying again" in publisher.stderr.readline()
        with running_server(store, port=first.port) as second:
            assert publisher.communicate()[0].startswith("2\t")
            assert kept(second, "news") == [1, 2]


# listen


def test_a_listener_goes_on_where_it_was_also_straight_on_a_store(store):
    """Cursors are moved before the command ends: the next receives what follows."""
    seed(store[1], "news", "bob")
    first = eric("listen", "news", "--listener", "bob", "--count", "1", "--json", *store)
    with open_engine(store[1]) as engine:
        engine.channels.load_one("news").broadcast(Message("message", 2))
    second = eric("listen", "news", "--listener", "bob", "--count", "1", "--json", *store)
    assert [json.loads(heard.out)["data"] for heard in (first, second)] == [1, 2]


def test_a_listener_survives_a_crash_of_the_server(tmp_path):
    """SIGKILL and a restart in its place: ``listen`` says so, comes back, and misses and repeats nothing."""
    store = f"sqlite:///{tmp_path}/events.db"
    with running_server(store, env={"ERIC_SSE_RETRY_MS": "100"}) as first:
        httpx2.post(f"{first.url}/channels", json={"id": "news"})
        sink = started("listen", "news", "--from", "earliest", "--url", first.url)
        publish(first, "news", 1, 2)
        assert [sink.stdout.readline()[-2] for _ in range(2)] == ["1", "2"]
        first.kill()
    with sink, running_server(store, port=first.port) as second:
        publish(second, "news", 3)
        assert sink.stdout.readline().endswith("\t3\n")
        sink.terminate()
        assert "connecting again in" in sink.communicate()[1]


def test_a_gap_is_told(server, channel, url):
    """A stream that cannot prove that nothing is missing says so, to machines and to people."""
    publish(server, channel, 1)
    with started("listen", channel, "--last-event-id", "0-0", *url) as sink:
        assert sink.stdout.readline().split("\t")[1] == "eric.gap"
        assert sink.stdout.readline().endswith("\t1\n")
        assert "missing" in sink.stderr.readline()
        sink.terminate()


def test_deleting_a_channel_ends_those_who_listen(server, channel, url):
    """They are told that nothing more will come, and end successfully."""
    publish(server, channel, 1)
    with started("listen", channel, "--from", "earliest", *url) as sink:
        sink.stdout.readline()
        httpx2.delete(f"{server.url}/channels/{channel}").raise_for_status()
        out, err = sink.communicate()
    assert (sink.returncode, out.split("\t")[1]) == (0, "eric.closed")
    assert "removed" in err


def test_ctrl_c_ends_it_quietly(server, channel, url):
    """Not a word, and the status that shells expect."""
    publish(server, channel, 1)
    with started("listen", channel, "--from", "earliest", *url) as sink:
        sink.stdout.readline()
        sink.send_signal(signal.SIGINT)
        assert sink.communicate() == ("", "")
    assert sink.returncode == 130


def test_a_closed_pipe_ends_it_quietly(server, channel, url):
    """``listen | head -1`` is no failure."""
    publish(server, channel, *range(3000))
    with started("listen", channel, "--from", "earliest", *url) as sink:
        sink.stdout.readline()
        sink.stdout.close()
        assert sink.stderr.read() == ""
    assert sink.returncode == 0


def test_sigterm_leaves_nothing_behind(store):
    """A command that works on a store takes its temporary folder away, however it is ended."""
    seed(store[1], "news")
    command = [*COMMAND, "listen", "news", "--from", "earliest", *store]
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(TMPDIR=folder)) as sink,
    ):
        sink.stdout.readline()
        assert list(Path(folder).iterdir())
        sink.terminate()
        assert (sink.wait(), list(Path(folder).iterdir())) == (143, [])


def test_a_long_temporary_folder_is_no_trouble(store, tmp_path):
    """The path of a unix-domain socket is short; the command finds a folder that is."""
    seed(store[1], "news")
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    assert eric("channel", "list", *store, env={"TMPDIR": str(folder)}).out.startswith("news\t")


# backup


def test_a_backup_holds_everything_while_a_server_runs(server, channel, url, tmp_path):
    """The copy is a store like the first; it is never written over a file."""
    publish(server, channel, 1)
    source, copy = server.line.split()[2], tmp_path / "copy.db"
    assert eric("backup", source, str(copy)) == (0, f"{copy}\n", "")
    assert listened(channel, ("--store", f"sqlite:///{copy}"), 1)[0].endswith("\t1")
    status, _, err = eric("backup", source, str(copy))
    assert (status, err.startswith(f"eric-sse: {copy} exists;")) == (1, True)


def test_only_sqlite_stores_are_backed_up(capsys, tmp_path):
    """Other engines are refused clearly."""
    status, _, err = eric_here(capsys, "backup", "memory://", str(tmp_path / "copy.db"))
    assert (status, err.startswith("eric-sse: 'memory://' is no SQLite store")) == (2, True)


# Wrong usage, and other failures


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["channel", "list", "--url", "http://x", "--store", "sqlite:///x"], "--url and --store exclude each other"),
        (["channel", "list", "--url", "nonsense"], "'nonsense' is no server's URL"),
        (["channel", "list", "--store", "memory://"], "a memory:// store would end with this command"),
        (["channel", "show", ".."], "id '..' would be resolved away"),
        (["publish", "news"], "say what to publish"),
        (["publish", "news", "hello"], "PAYLOAD cannot be published: JSON is malformed"),
        (["lisen", "news"], "No such command 'lisen'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_usage_is_told_in_a_line_and_status_2(capsys, arguments, says):
    """Nothing is done, and the line says what was wrong."""
    status, out, err = eric_here(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"eric-sse: {says}")


def test_where_no_server_runs_the_error_says_how_to_start_one(capsys, monkeypatch):
    """It names the URL, which here comes from the environment."""
    monkeypatch.setenv("ERIC_SSE_URL", "http://127.0.0.1:1")
    status, _, err = eric_here(capsys, "listen", "news")
    assert status == 1
    assert err.startswith("eric-sse: no server answers at http://127.0.0.1:1 (")
    assert "start one with 'eric-sse serve'" in err


def test_a_server_that_is_not_ours_is_recognised(capsys, tmp_path):
    """A page of HTML is not taken for an answer."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "-d", str(tmp_path), "-b", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as other:
        port = other.stdout.readline().split(" port ")[1].split()[0]
        status, _, err = eric_here(capsys, "channel", "list", "--url", f"http://127.0.0.1:{port}")
        other.kill()
    assert status == 1
    assert "answered 404 File not found, and not as an eric_sse server does" in err


def test_a_store_that_is_not_there_is_not_made_by_looking(capsys, monkeypatch, tmp_path):
    """Only ``channel create`` makes a file; elsewhere its name must be wrong."""
    path = tmp_path / "typo.db"
    monkeypatch.setenv("ERIC_SSE_STORE", f"sqlite:///{path}")
    status, _, err = eric_here(capsys, "channel", "list")
    assert (status, path.exists()) == (1, False)
    assert err.startswith(f"eric-sse: there is no store {path};")


@pytest.mark.parametrize("missing", ["typer", "fastapi"])
def test_a_missing_extra_is_named(missing):
    """Without the server extra the command says how to install it, in one line."""
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['eric-sse', 'serve']; "
    code += "from eric_sse.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = f"eric-sse: {missing} is not installed; run: pip install 'eric-sse[server]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


# What people see


def on_terminal(*arguments):
    """What a command writes on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, *arguments], stdout=theirs, env=environment(TERM="xterm", COLUMNS="100")) as done:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        done.wait()
    os.close(ours)
    return seen.decode()


def test_on_a_terminal_lists_are_tables(channel, url):
    """With a header and rules; --plain prints there what a pipe would get."""
    table, plain = on_terminal("channel", "list", *url), on_terminal("channel", "list", "--plain", *url)
    assert "last id" in table
    assert "───" in table
    assert f"{channel}\t" in plain
    assert "last id" not in plain


def test_what_steers_a_terminal_is_not_printed_as_it_is():
    """Control characters become escapes, which mean the same in JSON."""
    assert printable('"\x9b2J"') == r'"\u009b2J"'
    assert json.loads(printable('"\x9b2J"')) == "\x9b2J"
    assert printable("é\u200bx") == "é\u200bx"


def test_the_version_is_printed():
    """--version names the package and its version."""
    assert eric("--version").out.startswith("eric-sse 3.")


def test_without_arguments_the_help_is_printed_and_lists_every_command():
    """Whoever does not know the commands is shown them."""
    status, out, err = eric()
    assert (status, err) == (2, "")
    assert all(f" {name} " in out for name in ("serve", "publish", "listen", "backup", "channel", "listener"))
