// Opening what the data plane reads and writes: packet sockets, taps, an event, reservation sockets.
//
// Every function returns a file descriptor (or 0) or a negative errno; none keeps state. The descriptors belong to the
// caller. Sources: packet(7), Documentation/networking/{packet_mmap,tuntap}.rst, setns(2), ip(7).
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

// Bytes of struct virtio_net_hdr before each frame, on every descriptor opened here.
constexpr size_t kVnetHeader = 10;

// A TPACKET_V2 receive ring: slots of `slot_bytes` (a multiple of 16), as many as fit, in `blocks` blocks of `block_bytes`
// (a multiple of the page size).
struct RingShape {
  uint32_t slot_bytes, block_bytes, blocks;
  uint32_t per_block() const { return block_bytes / slot_bytes; }
  size_t bytes() const { return size_t{blocks} * block_bytes; }
};

// AF_PACKET socket bound to `ifindex` for all protocols, own transmissions ignored, virtio-net headers on. With a ring it
// takes only frames of `shortest` … `longest` bytes; without one (null) all, by recvmsg with auxiliary data.
int OpenPacket(int ifindex, bool promiscuous, const RingShape* ring, uint32_t shortest, uint32_t longest);

// Whether what is sent goes past the interface's queue, straight to its driver (PACKET_QDISC_BYPASS): a full interface is
// then known at once, but nothing cuts a super-frame that the driver cannot cut itself.
int SetQueueBypass(int fd, bool bypass);
// Whether the interface that the packet socket is bound to cuts TCP super-frames itself (ethtool's tso); true if unknown.
bool CutsTcp(int fd);

// The interface's IFF_… flags (netdevice(7)), or a negative errno.
int InterfaceFlags(const char* name);

// Frames that the kernel dropped at the socket since the last call (PACKET_STATISTICS), or a negative errno.
int64_t TakeDrops(int fd);

// A tap called `name` (made if there is none) in the network namespace open as `netns_fd` (-1: the caller's own), with
// virtio-net headers; `offloads`: checksum and segmentation offload towards the reader.
int OpenTap(const char* name, int netns_fd, bool offloads);

// Whether the tap outlives its descriptor.
int SetTapPersistent(int fd, bool persistent);

// eventfd(2), non-blocking.
int OpenEvent();
int SignalEvent(int fd);

// A bound socket without SO_REUSE* for each port first … last of `address` (host order); proto 6 or 17. Descriptors go to
// `fds`. Returns how many were bound; fewer than asked means that the next port failed with *error.
int ReservePorts(uint32_t address, int proto, int first, int last, int32_t* fds, int* error);

// Raises the limit of open files so that `count` more fit, as far as permitted.
int RaiseFileLimit(uint64_t count);

// A raw packet socket on `ifindex` for sending complete frames as they are (no virtio-net header).
int OpenSender(int ifindex);
int SendFrame(int fd, const uint8_t* frame, size_t length);

}  // namespace berth
