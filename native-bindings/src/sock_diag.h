// Which local ports the sockets of this network namespace have, and which have just lost a socket: netlink sock_diag.
//
//   Dump()          asks the kernel for every socket of a protocol in the given states and folds them into one byte a port;
//                   IPv4 sockets, and IPv6 ones that serve IPv4 (unspecified and not V6ONLY, or a mapped address). Sockets
//                   of 127.0.0.0/8 are left out: no frame from outside can be meant for them.
//   ReadDestroyed() what came in by the destroy groups: (protocol << 16 | local port) of sockets that have gone. Every one,
//                   IPv6 and loopback too, so a hint to look again and no more. -ENOBUFS: some were lost; dump.
//
// Unprivileged; sees the namespace of the thread that opened it. Not thread-safe. Sources: sock_diag(7), linux/inet_diag.h.
#pragma once

#include <cstdint>
#include <vector>

namespace berth {

enum SocketKind : uint8_t { kListening = 1, kBound = 2, kConnected = 4 };

class SockDiag {
 public:
  SockDiag();
  ~SockDiag();
  SockDiag(const SockDiag&) = delete;
  SockDiag& operator=(const SockDiag&) = delete;

  // 0, or the errno of a failed construction.
  int error() const { return error_; }

  // protocol: 6 or 17. which: SocketKind bits of the sockets asked for. Writes each port that has one, once, in no order,
  // and its kinds to the arrays, of 65,536 elements each; returns how many, or a negative errno.
  int Dump(int protocol, unsigned which, uint16_t* ports, uint8_t* kinds);

  // Joins the destroy groups; returns the descriptor to poll for readability, which stays this object's. Negative errno.
  int Subscribe();
  // At most `capacity` (≥ 1) events; returns how many; call again while it fills them. Negative errno.
  int ReadDestroyed(uint32_t* out, uint32_t capacity);

 private:
  int DumpFamily(int family, int protocol, uint32_t states);

  int error_ = 0;
  int dump_ = -1;
  int events_ = -1;
  uint32_t sequence_ = 0;
  std::vector<uint8_t> buffer_;
  // By port, during a dump: its kinds so far, and the ports that have any.
  std::vector<uint8_t> kinds_;
  std::vector<uint16_t> found_;
};

// A number for this network namespace that no other one gets until the machine restarts (SO_NETNS_COOKIE, Linux 5.14), or a
// negative errno.
int64_t NetnsCookie();

}  // namespace berth
