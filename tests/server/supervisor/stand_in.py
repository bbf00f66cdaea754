"""An engine process that behaves as its first argument says; the supervisor's tests run it as a program."""

import os
import signal
import sys
import threading
import time

import zmq

from headmix_server.core.messages import EngineReady, EngineReport, Shutdown, decode_to_engine, encode

IDLE = EngineReport(running=0, waiting=0, kv_usage=0.0, slots_free=1, slots_leased=0, slots_idle=0, slots_loading=0)


def exit_with_parent() -> None:
    # Not through sys.stdin: a thread blocked inside its lock makes the interpreter abort at exit.
    while os.read(0, 1):
        pass
    os._exit(5)


def serve(endpoint: str, behaviour: str) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
    socket.connect(endpoint)
    socket.send(encode(EngineReady(pid=os.getpid(), max_model_len=64, kv_blocks=4, block_size=16, adapter_slots=1)))
    if behaviour == "babbles":
        socket.send(b"\xc1")  # no message starts with this byte
    if behaviour == "dies":
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        if behaviour != "silent":
            socket.send(encode(IDLE))
        if socket.poll(50) and isinstance(decode_to_engine(socket.recv()), Shutdown) and behaviour != "stubborn":
            return


def main() -> None:
    behaviour, _, endpoint = sys.argv[1:]
    sys.stdin.readline()
    threading.Thread(target=exit_with_parent, daemon=True).start()
    if behaviour == "cannot-start":
        sys.exit(3)
    if behaviour == "fails":
        sys.exit(1)
    if behaviour == "never-ready":
        time.sleep(60)
    serve(endpoint, behaviour)


if __name__ == "__main__":
    main()
