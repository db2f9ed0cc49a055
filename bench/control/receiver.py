"""
Every guest's end of the churn, in one process: a packet socket on eth0 in each guest's namespace. Nothing else is there, no
address and no socket, so what is seen is what was delivered. A datagram carries `guest released serial sent` (network order, 2, 2, 4,
8 bytes): whose the endpoint was when it was sent, whether that guest had given it back already, and when that was (ms, monotonic).

    arguments: first and last port of those that change, namespaces     in: one line {"op": "counts"}
    out: {"wrong": n, "late": n, "changing": n, "stable": [n, …], "oldest": ms, "examples": [{"port": p, …}, …]}
"""
import ctypes, json, os, select, socket, struct, sys, time

setns = ctypes.CDLL(None, use_errno=True).setns  # os.setns came with Python 3.12
own = os.open('/proc/self/ns/net', os.O_RDONLY)
sockets = {}
for guest, namespace in enumerate(sys.argv[3:]):
    there = os.open('/run/netns/' + namespace, os.O_RDONLY)
    assert setns(there, 0x40000000) == 0
    one = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(0x0800))
    one.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
    one.bind(('eth0', 0x0800))
    sockets[one.fileno()] = (guest, one)
    assert setns(own, 0x40000000) == 0
    os.close(there)

first_named, last_named = int(sys.argv[1]), int(sys.argv[2])
wrong, late, changing, stable, oldest, examples = 0, 0, 0, [0] * len(sockets), 0, []
poll = select.epoll()
for fd in sockets:
    poll.register(fd, select.EPOLLIN)
poll.register(0, select.EPOLLIN)
print(json.dumps({'up': len(sockets)}), flush=True)
while True:
    for fd, _ in poll.poll():
        if fd == 0:
            if sys.stdin.readline() == '':
                sys.exit()
            print(json.dumps({'wrong': wrong, 'late': late, 'changing': changing, 'stable': stable, 'oldest': oldest, 'examples': examples}), flush=True)
            continue
        guest, one = sockets[fd]
        for _ in range(64):
            try:
                packet = one.recv(256)
            except OSError:  # nothing more, or the end of the link
                break
            header = 4 * (packet[0] & 15)
            if packet[9] != 17 or len(packet) < header + 24:
                continue
            port = struct.unpack_from('!H', packet, header + 2)[0]
            owner, released, serial, sent = struct.unpack_from('!HHId', packet, header + 8)
            came = time.monotonic_ns() / 1e6
            oldest = max(oldest, came - sent)
            if owner != guest:
                wrong += 1
            elif released:
                late += 1
            elif not first_named <= port <= last_named:
                stable[guest] += 1
            else:
                changing += 1
            if (owner != guest or released) and len(examples) < 10:
                examples.append({'port': port, 'of': owner, 'to': guest, 'released': released, 'serial': serial, 'sent': sent, 'came': came})
