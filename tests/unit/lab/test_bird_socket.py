"""What a router has heard is counted over sessions, whose counters begin anew."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.bird_socket import BirdSocket, Changes, Received

HEAD = "0001 BIRD 2.0.12 ready.\n2002-Name       Proto      Table      State  Since         Info\n"
UP = """\
1002-pop1       BGP        ---        up     14:40:01.665  Established
1006-  BGP state:          Established
   Channel ipv4
       Import updates:              2          0          0          0          2
       Import withdraws:            1          0        ---          0          1
   Channel ipv6
       Import updates:              3          0          0          0          3
       Import withdraws:            0          0        ---          0          0
0000\x20
"""
DOWN = """\
1002-pop1       BGP        ---        start  14:41:07.001  Passive       Socket: Connection closed
1006-  BGP state:          Passive
0000\x20
"""


@contextmanager
def bird_that_says(path: Path, reply: str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            conn, _ = listener.accept()
            with conn:
                head, _, rest = HEAD.partition("\n")
                conn.sendall(f"{head}\n".encode())
                conn.recv(1 << 12)
                conn.sendall(f"{rest}{reply}".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(5.0)


def test_a_session_is_told_by_when_it_began(tmp_path: Path) -> None:
    for reply, expected in ((UP, Received("14:40:01.665", 6)), (DOWN, Received("14:41:07.001", 0))):
        path = tmp_path / str(expected.changes)
        with bird_that_says(path, reply), BirdSocket(path) as bird:
            assert bird.received("pop1") == expected


def test_a_session_that_was_lost_and_told_everything_again_is_more_than_nothing() -> None:
    changes = Changes()
    seen = [changes.total(one) for one in (Received("a", 2), Received("a", 2), Received("b", 0), Received("c", 2))]
    assert seen == [2, 2, 2, 4]
