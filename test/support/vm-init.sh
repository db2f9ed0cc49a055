#!/bin/sh
# What the kernel of a guest VM starts: modules, names of virtio ports, the agent, and a shell for the test (vm.ts).
#
# test.shell   a command a line; its output follows, then a line "=STATUS".
# test.log     takes the agent's log.
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin 2>/dev/null # what is there already stays
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
for module in /modules/*; do insmod "$module"; done
mkdir /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
  name=$(cat "$port/name")
  # As udev would. The agent has to find its port without.
  [ "$name" = berth.agent.0 ] || ln -s "../${port##*/}" "/dev/virtio-ports/$name"
done
/bin/ip link set dev lo up

cat > /bin/berth-agent <<'AGENT'
#!/bin/sh
exec node /berth/dist/cli/main.js agent --virtio-port berth.agent.0 </dev/null >/dev/virtio-ports/test.log 2>/dev/console
AGENT
chmod +x /bin/berth-agent
berth-agent &

while :; do
  while read -r line; do
    sh -c "$line" 2>&1
    echo "=$?"
  done <>/dev/virtio-ports/test.shell >&0
  sleep 0.1 # the test's end is not there yet
done
