#include "sock_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Newer than some headers: linux 5.14.
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace berth {

namespace {

// Kernel numbers of socket states (net/tcp_states.h); UDP uses the first and kClose.
constexpr unsigned kEstablished = 1, kTimeWait = 6, kClose = 7, kListen = 10;
// Since Linux 6.8: bound, neither listening nor connected. Older kernels ignore the bit and do not list such sockets.
constexpr unsigned kBoundInactive = 13;
constexpr uint32_t Bit(unsigned state) { return 1u << state; }
// A connection that waits out its time has no socket any more: it does not count as one.
constexpr uint32_t kConnectedStates = 0x1fff & ~(Bit(0) | Bit(kTimeWait) | Bit(kClose) | Bit(kListen));

constexpr size_t kBufferBytes = 64 * 1024;
constexpr int kEventBufferBytes = 1 << 20;

uint32_t StatesOf(int protocol, unsigned which) {
  uint32_t states = 0;
  if (protocol == IPPROTO_UDP) {
    if ((which & kBound) != 0) states |= Bit(kClose);
    if ((which & kConnected) != 0) states |= Bit(kEstablished);
    return states;
  }
  if ((which & kListening) != 0) states |= Bit(kListen);
  if ((which & kBound) != 0) states |= Bit(kClose) | Bit(kBoundInactive);
  if ((which & kConnected) != 0) states |= kConnectedStates;
  return states;
}

uint8_t KindOf(unsigned state) {
  if (state == kListen) return kListening;
  if (state == kClose || state == kBoundInactive) return kBound;
  return state == kTimeWait ? 0 : kConnected;
}

bool IsLoopback(uint32_t address) { return (ntohl(address) >> 24) == 127; }

// Whether a frame to an IPv4 address of ours can be meant for this socket.
bool ServesIpv4(const inet_diag_msg* m, const nlmsghdr* header) {
  const __be32* source = m->id.idiag_src;
  if (m->idiag_family == AF_INET) return !IsLoopback(source[0]);
  if (source[0] != 0 || source[1] != 0) return false;
  if (source[2] == htonl(0xffff)) return !IsLoopback(source[3]);
  if (source[2] != 0 || source[3] != 0) return false;
  auto* attribute = reinterpret_cast<const rtattr*>(m + 1);
  int left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof *m));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type == INET_DIAG_SKV6ONLY) return *static_cast<const uint8_t*>(RTA_DATA(attribute)) == 0;
  }
  return true;
}

int OpenNetlink() {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  return fd < 0 ? -errno : fd;
}

}  // namespace

SockDiag::SockDiag() : buffer_(kBufferBytes), kinds_(65536) {
  int fd = OpenNetlink();
  if (fd < 0) {
    error_ = -fd;
    return;
  }
  dump_ = fd;
  found_.reserve(1024);
}

SockDiag::~SockDiag() {
  if (dump_ >= 0) close(dump_);
  if (events_ >= 0) close(events_);
}

int SockDiag::DumpFamily(int family, int protocol, uint32_t states) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  ask.header.nlmsg_seq = ++sequence_;
  ask.request.sdiag_family = static_cast<uint8_t>(family);
  ask.request.sdiag_protocol = static_cast<uint8_t>(protocol);
  ask.request.idiag_states = states;
  if (send(dump_, &ask, sizeof ask, 0) < 0) return -errno;
  for (;;) {
    ssize_t got = recv(dump_, buffer_.data(), buffer_.size(), 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    auto left = static_cast<unsigned>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      // What is left of a dump that was given up.
      if (header->nlmsg_seq != sequence_) continue;
      if (header->nlmsg_type == NLMSG_DONE) return 0;
      if (header->nlmsg_type == NLMSG_ERROR) return static_cast<nlmsgerr*>(NLMSG_DATA(header))->error;
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) continue;
      auto* m = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      uint16_t port = ntohs(m->id.idiag_sport);
      uint8_t kind = KindOf(m->idiag_state);
      if (port == 0 || kind == 0 || (kinds_[port] & kind) != 0 || !ServesIpv4(m, header)) continue;
      if (kinds_[port] == 0) found_.push_back(port);
      kinds_[port] |= kind;
    }
  }
}

int SockDiag::Dump(int protocol, unsigned which, uint16_t* ports, uint8_t* kinds) {
  uint32_t states = StatesOf(protocol, which);
  int result = DumpFamily(AF_INET, protocol, states);
  if (result == 0) {
    result = DumpFamily(AF_INET6, protocol, states);
    if (result == -ENOENT) result = 0;  // a kernel without IPv6
  }
  int count = 0;
  for (uint16_t port : found_) {
    ports[count] = port;
    kinds[count++] = kinds_[port];
    kinds_[port] = 0;
  }
  found_.clear();
  return result < 0 ? result : count;
}

int SockDiag::Subscribe() {
  if (events_ >= 0) return events_;
  int fd = OpenNetlink();
  if (fd < 0) return fd;
  int bytes = kEventBufferBytes;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  // Without an address of its own the socket has the kernel's, and is taken for the sender of every event.
  sockaddr_nl own{};
  own.nl_family = AF_NETLINK;
  if (bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  for (int group : {SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_TCP_DESTROY, SKNLGRP_INET6_UDP_DESTROY}) {
    bool ipv6 = group == SKNLGRP_INET6_TCP_DESTROY || group == SKNLGRP_INET6_UDP_DESTROY;
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0 && !ipv6) {
      int error = errno;
      close(fd);
      return -error;
    }
  }
  events_ = fd;
  return fd;
}

int SockDiag::ReadDestroyed(uint32_t* out, uint32_t capacity) {
  uint32_t count = 0;
  while (count < capacity) {
    ssize_t got = recv(events_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      // After an error the rest is still there for the next call.
      return errno == EAGAIN ? static_cast<int>(count) : -errno;
    }
    auto left = static_cast<unsigned>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(header, left) && count < capacity; header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) continue;
      auto* m = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      auto* attribute = reinterpret_cast<const rtattr*>(m + 1);
      int rest = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof *m));
      uint32_t protocol = 0;
      for (; RTA_OK(attribute, rest); attribute = RTA_NEXT(attribute, rest)) {
        if (attribute->rta_type == INET_DIAG_PROTOCOL) protocol = *static_cast<const uint8_t*>(RTA_DATA(attribute));
      }
      uint16_t port = ntohs(m->id.idiag_sport);
      if (port != 0) out[count++] = protocol << 16 | port;
    }
  }
  return static_cast<int>(count);
}

int64_t NetnsCookie() {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return -errno;
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  int64_t result = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0 ? -errno : static_cast<int64_t>(cookie);
  close(fd);
  return result;
}

}  // namespace berth
