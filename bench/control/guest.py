"""
What runs in a guest of the control benches: servers that come and go. One JSON object a line in, one out; `at` is when it
was done, in ms of the monotonic clock, which every namespace of a machine shares.

    {"op": "listen", "port": p}   {"op": "close"}         a listener of this process; its connections have gone by then
    {"op": "fork", "port": p}     {"op": "kill"}          a process with a listener; kill -9
    {"op": "stream", "port": p}                           sends for ever to whoever connects
"""
import json, os, signal, socket, sys, threading, time

now = lambda: time.monotonic_ns() / 1e6
server, child = None, 0


def listening(port):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(('0.0.0.0', port))
    one.listen(256)
    return one


def stream(one):
    while True:
        client, _ = one.accept()
        try:
            while True:
                client.sendall(bytes(16384))
                time.sleep(0.005)
        except OSError:
            client.close()


for line in sys.stdin:
    given = json.loads(line)
    op, answer = given['op'], {}
    if op == 'listen':
        server = listening(given['port'])
        answer['at'] = now()
    elif op == 'close':
        server.close()
        answer['at'] = now()
    elif op == 'fork':
        end, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            kept = listening(given['port'])
            theirs.send(b'x')
            signal.pause()
        end.recv(1)
        end.close(), theirs.close()
        answer['at'] = now()
    elif op == 'kill':
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answer['at'] = now()
    elif op == 'stream':
        threading.Thread(target=stream, args=(listening(given['port']),), daemon=True).start()
    print(json.dumps(answer), flush=True)
