"""Runs a program whose standard input and error are a terminal of 80 columns, as an operator has it; its standard output is a pipe.

Arguments: what is typed (escapes as in Python, '' for nothing) once the terminal has shown something, and the command. Prints a JSON object:
status (an exit code, or -signal), output, and all that the terminal was sent.
"""
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios

typed, command = sys.argv[1].encode().decode("unicode_escape").encode(), sys.argv[2:]
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))


def take_terminal():
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)


child = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, preexec_fn=take_terminal)
os.close(theirs)
output = child.stdout.fileno()
said = {ours: b"", output: b""}
reading = [ours, output]
while reading:
    for end in select.select(reading, [], [])[0]:
        try:
            data = os.read(end, 65536)
        except OSError:  # a terminal that nobody has open any more
            data = b""
        said[end] += data
        if not data:
            reading.remove(end)
        elif end == ours and typed:
            os.write(ours, typed)
            typed = b""
print(json.dumps({"status": child.wait(), "output": said[output].decode(), "terminal": said[ours].decode()}))
