#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// Newer than Debian 12's headers (linux 6.2): UDP segmentation offload.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

namespace berth {

namespace {

// Closes `fd` and gives the error that was, for use in one return.
int Fail(int fd) {
  int error = errno;
  close(fd);
  return -error;
}

int SetInt(int fd, int level, int option, int value) { return setsockopt(fd, level, option, &value, sizeof value); }

// Lets the socket take only frames of `shortest` … `longest` bytes.
int FilterByLength(int fd, uint32_t shortest, uint32_t longest) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, shortest, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, longest, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, ~0u),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  sock_fprog filter{sizeof program / sizeof *program, program};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

}  // namespace

int OpenPacket(int ifindex, bool promiscuous, const RingShape* ring, uint32_t shortest, uint32_t longest) {
  // Protocol 0 until bind: nothing of other interfaces gets in.
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (SetInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1) < 0) return Fail(fd);
  if (SetInt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) < 0) return Fail(fd);
  if (SetQueueBypass(fd, true) < 0) return Fail(fd);
  SetInt(fd, SOL_SOCKET, SO_SNDBUFFORCE, 32 << 20);
  if (ring != nullptr) {
    if (FilterByLength(fd, shortest, longest) < 0) return Fail(fd);
    if (SetInt(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2) < 0) return Fail(fd);
    tpacket_req req{};
    req.tp_frame_size = ring->slot_bytes;
    req.tp_block_size = ring->block_bytes;
    req.tp_block_nr = ring->blocks;
    req.tp_frame_nr = ring->blocks * ring->per_block();
    if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof req) < 0) return Fail(fd);
  } else {
    SetInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
    if (SetInt(fd, SOL_PACKET, PACKET_AUXDATA, 1) < 0) return Fail(fd);
  }
  if (promiscuous) {
    packet_mreq mreq{};
    mreq.mr_ifindex = ifindex;
    mreq.mr_type = PACKET_MR_PROMISC;
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof mreq) < 0) return Fail(fd);
  }
  sockaddr_ll ll{};
  ll.sll_family = AF_PACKET;
  ll.sll_protocol = htons(ETH_P_ALL);
  ll.sll_ifindex = ifindex;
  if (bind(fd, reinterpret_cast<sockaddr*>(&ll), sizeof ll) < 0) return Fail(fd);
  return fd;
}

int SetQueueBypass(int fd, bool bypass) { return SetInt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, bypass ? 1 : 0) < 0 ? -errno : 0; }

bool CutsTcp(int fd) {
  sockaddr_ll ll{};
  socklen_t size = sizeof ll;
  ifreq request{};
  ethtool_value value{};
  value.cmd = ETHTOOL_GTSO;
  request.ifr_data = reinterpret_cast<char*>(&value);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&ll), &size) < 0 || if_indextoname(ll.sll_ifindex, request.ifr_name) == nullptr) return true;
  return ioctl(fd, SIOCETHTOOL, &request) < 0 || value.data != 0;
}

int InterfaceFlags(const char* name) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  ifreq request{};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  int result = ioctl(fd, SIOCGIFFLAGS, &request) < 0 ? -errno : static_cast<uint16_t>(request.ifr_flags);
  close(fd);
  return result;
}

int64_t TakeDrops(int fd) {
  tpacket_stats stats{};
  socklen_t size = sizeof stats;
  return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) < 0 ? -errno : static_cast<int64_t>(stats.tp_drops);
}

int OpenTap(const char* name, int netns_fd, bool offloads) {
  int home = -1;
  if (netns_fd >= 0) {
    home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) return -errno;
    if (setns(netns_fd, CLONE_NEWNET) < 0) return Fail(home);
  }
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  int result = fd < 0 ? -errno : 0;
  if (fd >= 0) {
    ifreq request{};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int header = kVnetHeader;
    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) {
      result = Fail(fd);
    } else {
      unsigned flags = offloads ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN : 0;
      if (!offloads || ioctl(fd, TUNSETOFFLOAD, flags | TUN_F_USO4 | TUN_F_USO6) < 0) ioctl(fd, TUNSETOFFLOAD, flags);
      result = fd;
    }
  }
  if (home >= 0) {
    // Going back cannot fail for a descriptor that we opened; if it did, the caller must not go on in this thread.
    bool back = setns(home, CLONE_NEWNET) == 0;
    close(home);
    if (!back) {
      if (result >= 0) close(result);
      return -ENOTRECOVERABLE;
    }
  }
  return result;
}

int SetTapPersistent(int fd, bool persistent) { return ioctl(fd, TUNSETPERSIST, persistent ? 1 : 0) < 0 ? -errno : 0; }

int OpenEvent() {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int SignalEvent(int fd) {
  uint64_t one = 1;
  return write(fd, &one, sizeof one) < 0 && errno != EAGAIN ? -errno : 0;
}

int ReservePorts(uint32_t address, int proto, int first, int last, int32_t* fds, int* error) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(address);
  int bound = 0;
  for (int port = first; port <= last; port++) {
    int fd = socket(AF_INET, (proto == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
      *error = errno;
      return bound;
    }
    SetInt(fd, IPPROTO_IP, IP_FREEBIND, 1);
    // Nothing reads these sockets: what host-local clients send to a UDP one must not pile up.
    SetInt(fd, SOL_SOCKET, SO_RCVBUF, 0);
    to.sin_port = htons(static_cast<uint16_t>(port));
    if (bind(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) {
      *error = errno;
      close(fd);
      return bound;
    }
    fds[bound++] = fd;
  }
  return bound;
}

int RaiseFileLimit(uint64_t count) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  uint64_t wanted = count + 4096;
  if (limit.rlim_cur >= wanted) return 0;
  limit.rlim_cur = wanted;
  if (limit.rlim_max < wanted) limit.rlim_max = wanted;
  return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

int OpenSender(int ifindex) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  SetInt(fd, SOL_SOCKET, SO_SNDBUFFORCE, 32 << 20);
  sockaddr_ll ll{};
  ll.sll_family = AF_PACKET;
  ll.sll_ifindex = ifindex;
  if (bind(fd, reinterpret_cast<sockaddr*>(&ll), sizeof ll) < 0) return Fail(fd);
  return fd;
}

int SendFrame(int fd, const uint8_t* frame, size_t length) {
  // A full transmit queue empties in microseconds; one that does not for a second is an error.
  for (int tries = 0; tries < 10000; tries++) {
    if (send(fd, frame, length, 0) >= 0) return 0;
    if (errno != ENOBUFS && errno != EAGAIN) break;
    usleep(100);
  }
  return -errno;
}

}  // namespace berth
