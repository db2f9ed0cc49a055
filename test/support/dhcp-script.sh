#!/bin/sh
# The script of a guest's DHCP client: udhcpc's (event in $1, udhcpc(8)) and dhclient's ($reason, dhclient-script(8)). Sets what the
# client was told, and writes it as a line to a file beside this one. The resolver is left alone: it is the machine's.
event=${1:-$reason}
dev=$interface
if [ -n "$reason" ]; then
  ip=$new_ip_address router=$new_routers dns=$new_domain_name_servers mtu=$new_interface_mtu serverid=$new_dhcp_server_identifier lease=$new_dhcp_lease_time
  mask=$(busybox ipcalc -p "$ip" "$new_subnet_mask" 2>/dev/null)
  mask=${mask#PREFIX=}
fi
case $event in
  deconfig | PREINIT | EXPIRE | FAIL | RELEASE | STOP)
    /sbin/ip addr flush dev "$dev"
    /sbin/ip link set dev "$dev" up
    ;;
  bound | renew | BOUND | RENEW | REBIND | REBOOT)
    /sbin/ip addr show dev "$dev" | grep -q "inet $ip/$mask " || /sbin/ip addr flush dev "$dev"
    /sbin/ip addr replace "$ip/$mask" dev "$dev"
    [ -z "$mtu" ] || /sbin/ip link set dev "$dev" mtu "$mtu"
    [ -z "$router" ] || /sbin/ip route replace default via "$router" dev "$dev"
    if [ -n "$opt159" ]; then # RFC 7618: offset, bits, first port, as hexadecimal digits
      bits=$((0x$(echo "$opt159" | cut -c3-4)))
      first=$((0x$(echo "$opt159" | cut -c5-8)))
      echo "$first $((first + (1 << (16 - bits)) - 1))" >/proc/sys/net/ipv4/ip_local_port_range
    fi
    ;;
esac
echo "$event $ip/$mask via $router mtu $mtu server $serverid lease $lease" >>"${0%.sh}.log"
