// The engine's ports: the NIC's two receive rings and any number of links, served by one thread.
//
//   port 0        the NIC: two AF_PACKET rings side by side in memory 0, one of many small slots and one of slots for
//                 super-frames; received as one, in order of time. What is sent goes out by the first one's socket
//   port 1 + n    link n: a tap descriptor, or a packet socket on a tap that a VMM holds; both carry a 10-byte
//                 virtio-net header before each frame, and both are read into the link slots, memory 1
//   memory 2      frames that JavaScript put somewhere itself (the `cap` back end)
//
// One call receives a batch of descriptors, one sends a batch of verdicts. A received frame is borrowed from its memory
// until Forward() of the same batch (ring slots go back to the kernel there, link slots are overwritten by the next
// receive). Not thread-safe: one thread calls everything.
#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "sockets.h"

namespace berth {

// What both sides see of a batch; arrays of `capacity` that JavaScript owns. Offsets count from the memory's start.
struct Descriptors {
  uint32_t capacity = 0;
  uint32_t* offset = nullptr;
  uint32_t* length = nullptr;
  uint32_t* wire_length = nullptr;
  uint32_t* seconds = nullptr;
  uint32_t* nanoseconds = nullptr;
  // In: the port to send to, or negative for none. Out: LostCode() for a frame that could not be sent.
  int32_t* verdict = nullptr;
  // Ports found ready by Wait().
  int32_t* ready = nullptr;
};

enum Memory { kRingMemory = 0, kLinkMemory = 1, kOtherMemory = 2 };
enum Lost { kLinkDown = 0, kLinkFull = 1, kTooLong = 2 };
constexpr int32_t LostCode(int port, Lost why) { return -16 - 4 * port - why; }

// In `ready`, instead of a port: the event descriptor was signalled.
constexpr int32_t kWoken = -1;
// Added to a port in `ready` whose descriptor reports an error: it has been taken out and must be detached.
constexpr int32_t kFailed = 1 << 24;

// Room for the auxiliary data of one received frame.
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(tpacket_auxdata));

constexpr uint32_t kLinkSlots = 64;
constexpr uint32_t kLinkSlotBytes = 68 * 1024;
// Where a frame begins in a link slot: its IP header then lies at a multiple of 16.
constexpr uint32_t kLinkFrameStart = 18;

class Ports {
 public:
  Ports(const Descriptors& descriptors, uint32_t max_ports);
  ~Ports();
  Ports(const Ports&) = delete;
  Ports& operator=(const Ports&) = delete;

  // 0, or the errno of a failed construction (no memory, no epoll).
  int error() const { return error_; }

  // Adds the descriptor whose signal ends Wait(); stays the caller's.
  int AttachEvent(int fd);
  // Takes over the sockets and their rings made by OpenPacket, each of at least `capacity` slots; maps them as memory 0
  // and serves them as port 0. `mtu`: the NIC's; no guest's segments may be longer.
  int AttachRings(const int fds[2], const RingShape shapes[2], uint32_t mtu);
  // Takes over `fd` as `port` (1 …); is_socket for a packet socket, else a tap.
  int AttachLink(int port, int fd, bool is_socket);
  // Closes the port's descriptor; unless keep_tap, a tap loses its persistence and disappears.
  int Detach(int port, bool keep_tap);

  // Sleeps until a port is ready, at most timeout_ms, after `looks` looks without sleeping; returns how many entries of
  // `ready` are valid. A port is ready when it has frames.
  int Wait(int timeout_ms, int looks);
  // Fill the descriptors; return how many frames.
  int ReceiveRings();
  int ReceiveLink(int port);
  // Sends frames 0 … count-1 by their verdicts and gives ring slots back; returns how many could not be sent.
  int Forward(Memory memory, uint32_t count);
  // Sends one frame at once: 0, or the LostCode.
  int32_t SendOne(Memory memory, int port, uint32_t offset, uint32_t length);

  uint8_t* memory(Memory which) const { return memory_[which]; }
  uint64_t memory_bytes(Memory which) const { return memory_bytes_[which]; }
  void SetOtherMemory(uint8_t* bytes, uint64_t length);

 private:
  struct Port {
    int fd = -1;
    bool is_socket = false;
    // A packet socket that goes past the interface's queue.
    bool bypasses = false;
  };
  // A ring, and the slot in it that the kernel fills next.
  struct Ring {
    int fd = -1;
    RingShape shape{};
    uint8_t* base = nullptr;
    uint8_t* next = nullptr;
    uint32_t block = 0, in_block = 0;
    tpacket2_hdr* Header() const { return reinterpret_cast<tpacket2_hdr*>(next); }
    bool IsReady() const { return next != nullptr && (__atomic_load_n(&Header()->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0; }
    void Advance();
  };
  Ring* NextReady();
  int Watch(int fd, uint64_t key);
  void Flush(int port);
  static bool StopBypass(Port& port, const uint8_t* packet);
  int32_t WriteFrame(int port, uint8_t* packet, size_t bytes);

  Descriptors d_;
  int error_ = 0;
  int epoll_ = -1;
  int event_ = -1;
  std::vector<Port> ports_;
  uint8_t* memory_[3] = {nullptr, nullptr, nullptr};
  uint64_t memory_bytes_[3] = {0, 0, 0};
  Ring rings_[2];
  uint32_t mtu_ = ~0u;
  // The slots of the batch that was received last.
  std::vector<tpacket2_hdr*> lent_;
  // Frames gathered for one sendmmsg or recvmmsg.
  std::vector<mmsghdr> messages_;
  std::vector<iovec> vectors_;
  std::vector<uint32_t> frames_;
  std::vector<uint8_t> control_;
  uint32_t gathered_ = 0;
  int lost_ = 0;
};

}  // namespace berth
