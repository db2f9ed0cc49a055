// bpf(2) as far as socket filters and programs at an interface's ingress need it: maps, programs of raw instructions,
// attaching, a trial run.
//
// Every function returns a file descriptor (or 0) or a negative errno; none keeps state. The descriptors belong to the
// caller; a socket keeps the program that is attached to it, and a program its maps, beyond the closing of theirs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

// `type` and `flags` as in linux/bpf.h.
int CreateMap(uint32_t type, uint32_t key_bytes, uint32_t value_bytes, uint32_t entries, uint32_t flags);
int UpdateMap(int map, const void* key, const void* value);
int DeleteFromMap(int map, const void* key);

// Returns when every program that was running has ended (membarrier(2): it waits for RCU). Negative errno.
int WaitForPrograms();

// What a program is for: a packet socket's filter, or the ingress of an interface (BPF_PROG_TYPE_SCHED_CLS).
enum ProgramUse { kSocketFilter = 0, kIngress = 1 };

// Loads `count` instructions of 8 bytes. The kernel lets only programs under `license` "GPL" or "Dual …/GPL" call functions
// of its own.
int LoadProgram(ProgramUse use, const void* instructions, uint32_t count, const char* license);
// Replaces the socket's filter.
int AttachSocketFilter(int socket, int program);
// Puts the program at the interface's ingress (tcx, Linux 6.6), before all that is there, tc's own and nftables' hooks; after packet
// sockets.
// Returns a descriptor, with whose closing the program leaves the interface.
int AttachIngress(int ifindex, int program);
// What the program returns for a frame, as a packet socket, or the hook, would show it.
int64_t RunProgram(ProgramUse use, int program, const uint8_t* frame, size_t length);

}  // namespace berth
