"""Opens and closes sockets as it is told, a line of JSON each way: {op, name, ...} -> {port} or {error}."""
import json, socket, sys

held = {}


def do(op, name, family='inet', proto='tcp', address='', port=0, v6only=False, to=None, backlog=5):
    if op == 'close':
        held.pop(name).close()
        return 0
    if op == 'accept':
        held[name], _ = held[to].accept()
        return held[name].getsockname()[1]
    s = held[name] if op == 'again' else socket.socket(socket.AF_INET6 if family == 'inet6' else socket.AF_INET, socket.SOCK_STREAM if proto == 'tcp' else socket.SOCK_DGRAM)
    if family == 'inet6':
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if v6only else 0)
    if op == 'reuseport':
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    elif proto == 'tcp':
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held[name] = s
    if op in ('bind', 'listen', 'reuseport'):
        s.bind((address or ('::' if family == 'inet6' else '0.0.0.0'), port))
    if op in ('listen', 'unbound-listen', 'reuseport') and proto == 'tcp':
        s.listen(backlog)
    if op == 'connect':
        s.connect((address, port))
    return s.getsockname()[1]


for line in sys.stdin:
    try:
        print(json.dumps({'port': do(**json.loads(line))}), flush=True)
    except Exception as error:
        print(json.dumps({'error': repr(error)}), flush=True)
