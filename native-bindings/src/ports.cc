// Ports, life: memories, attaching, detaching, waiting. Receiving and sending: ports_receive.cc, ports_send.cc.
#include "ports.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

namespace berth {

namespace {

constexpr uint64_t kEventKey = ~0ull;
constexpr uint64_t kSecondRingKey = kEventKey - 1;

}  // namespace

Ports::Ports(const Descriptors& descriptors, uint32_t max_ports)
    : d_(descriptors),
      ports_(max_ports),
      lent_(descriptors.capacity),
      messages_(kLinkSlots),
      vectors_(kLinkSlots),
      frames_(kLinkSlots),
      control_(kLinkSlots * kControlBytes) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) {
    error_ = errno;
    return;
  }
  size_t bytes = size_t{kLinkSlots} * kLinkSlotBytes;
  void* slots = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (slots == MAP_FAILED) {
    error_ = errno;
    return;
  }
  memory_[kLinkMemory] = static_cast<uint8_t*>(slots);
  memory_bytes_[kLinkMemory] = bytes;
}

Ports::~Ports() {
  for (Port& port : ports_)
    if (port.fd >= 0) close(port.fd);
  if (rings_[1].fd >= 0) close(rings_[1].fd);
  if (epoll_ >= 0) close(epoll_);
  for (Memory which : {kRingMemory, kLinkMemory})
    if (memory_[which] != nullptr) munmap(memory_[which], memory_bytes_[which]);
}

int Ports::Watch(int fd, uint64_t key) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int Ports::AttachEvent(int fd) {
  event_ = fd;
  return Watch(fd, kEventKey);
}

int Ports::AttachRings(const int fds[2], const RingShape shapes[2], uint32_t mtu) {
  mtu_ = mtu;
  // One range of addresses for both, so that one set of offsets can name the frames of either.
  size_t bytes = shapes[0].bytes() + shapes[1].bytes();
  // A slot that is lent out looks filled: no batch may go round a ring.
  for (int i = 0; i < 2; i++)
    if (shapes[i].blocks * shapes[i].per_block() < d_.capacity) return -EINVAL;
  void* range = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) return -errno;
  memory_[kRingMemory] = static_cast<uint8_t*>(range);
  memory_bytes_[kRingMemory] = bytes;
  uint8_t* at = memory_[kRingMemory];
  for (int i = 0; i < 2; i++) {
    if (mmap(at, shapes[i].bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fds[i], 0) == MAP_FAILED) return -errno;
    rings_[i] = {fds[i], shapes[i], at, at, 0, 0};
    at += shapes[i].bytes();
  }
  int watched = Watch(fds[1], kSecondRingKey);
  return watched < 0 ? watched : AttachLink(0, fds[0], true);
}

int Ports::AttachLink(int port, int fd, bool is_socket) {
  if (port < 0 || static_cast<size_t>(port) >= ports_.size()) return -ERANGE;
  if (ports_[port].fd >= 0) return -EBUSY;
  int watched = Watch(fd, static_cast<uint64_t>(port));
  if (watched < 0) return watched;
  ports_[port] = {fd, is_socket, true};
  return 0;
}

int Ports::Detach(int port, bool keep_tap) {
  if (port < 0 || static_cast<size_t>(port) >= ports_.size()) return -ERANGE;
  Port& p = ports_[port];
  if (p.fd < 0) return 0;
  if (!p.is_socket && !keep_tap) SetTapPersistent(p.fd, false);
  // By hand: a child that was just forked may hold the descriptor for a moment, and closing alone would leave it watched.
  epoll_ctl(epoll_, EPOLL_CTL_DEL, p.fd, nullptr);
  close(p.fd);
  p = Port{};
  if (port == 0 && rings_[1].fd >= 0) {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, rings_[1].fd, nullptr);
    close(rings_[1].fd);
    rings_[1].fd = -1;
  }
  return 0;
}

void Ports::SetOtherMemory(uint8_t* bytes, uint64_t length) {
  memory_[kOtherMemory] = bytes;
  memory_bytes_[kOtherMemory] = length;
}

int Ports::Wait(int timeout_ms, int looks) {
  epoll_event events[64];
  int found = 0;
  // Looking again pays even on shared cores (bench/README.md); it ends quickly when there is nothing.
  for (int look = 0; look < looks && found == 0; look++) found = epoll_wait(epoll_, events, 64, 0);
  if (found == 0) found = epoll_wait(epoll_, events, 64, timeout_ms);
  if (found < 0) return errno == EINTR ? 0 : -errno;
  int count = 0;
  bool ring_found = false;
  for (int i = 0; i < found; i++) {
    if (events[i].data.u64 == kEventKey) {
      uint64_t value;
      if (read(event_, &value, sizeof value) > 0) d_.ready[count++] = kWoken;
      continue;
    }
    bool is_second = events[i].data.u64 == kSecondRingKey;
    auto port = is_second ? 0 : static_cast<int32_t>(events[i].data.u64);
    if ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0) {
      int error = 0;
      socklen_t size = sizeof error;
      if (is_second) {
        // The other ring's socket has the same error, and reports it.
        getsockopt(rings_[1].fd, SOL_SOCKET, SO_ERROR, &error, &size);
        continue;
      }
      // A NIC that went down comes back on the same socket: taking the error clears it. A link is opened anew.
      if (ports_[port].is_socket) getsockopt(ports_[port].fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (port != 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, ports_[port].fd, nullptr);
      d_.ready[count++] = port + kFailed;
      continue;
    }
    if (port == 0) {
      if (ring_found) continue;
      ring_found = true;
    }
    d_.ready[count++] = port;
  }
  return count;
}

}  // namespace berth
